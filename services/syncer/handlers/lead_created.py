"""lead-created: insert the leads that are new, cache them, and tell of them."""

import contextlib
from collections.abc import Sequence

from services.syncer.after_commit import is_news, lead_changed
from services.syncer.storage.creation import Creation, LeadCreationRepository, new_lead
from shared.cache.lead_cache import LeadCache
from shared.domain.errors import UnavailableError
from shared.events.envelope import Event
from shared.events.lead_events import LeadCreated
from shared.events.outcome import Outcome
from shared.storage.inbox import EventRecord
from shared.streams.publisher import Publisher


class LeadCreatedHandler:
    """Applies a batch in one transaction; every event has an outcome of its own."""

    def __init__(
        self, leads: LeadCreationRepository, cache: LeadCache, publisher: Publisher
    ) -> None:
        self._leads = leads
        self._cache = cache
        self._publisher = publisher

    async def __call__(self, events: Sequence[Event[LeadCreated]]) -> Sequence[Outcome]:
        """Apply the events; also those applied before, whose followers may not have heard."""
        created = await self._leads.create([_creation(event) for event in events])
        made = [
            (event, one.document)
            for event, one in zip(events, created, strict=True)
            if one.document is not None and is_news(event, one.outcome)
        ]
        # A lead that is new has no older copy in the cache, so the cache may be down.
        with contextlib.suppress(UnavailableError):
            await self._cache.put([lead for _, lead in made])
        await self._publisher.publish_all(
            [
                lead_changed(event, lead.id, version=lead.version, change="created")
                for event, lead in made
            ]
        )
        return [one.outcome for one in created]


def _creation(event: Event[LeadCreated]) -> Creation:
    data = event.data
    return Creation(
        EventRecord.of(event, subject=data.lead_id),
        new_lead(
            event,
            data.lead,
            lead_id=data.lead_id,
            source=data.source,
            created_by=data.created_by,
        ),
        replayed=event.replay_id is not None,
    )
