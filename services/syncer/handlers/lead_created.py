"""lead-created: insert the leads that are new, cache them, and tell of them."""

import contextlib
from collections.abc import Sequence
from typing import cast

from shared.cache.lead_cache import LeadCache
from shared.domain.errors import UnavailableError
from shared.domain.lead import email_key
from shared.events.envelope import Event
from shared.events.lead_events import LeadChanged, LeadCreated
from shared.events.outcome import Outcome
from shared.storage.event_record import EventRecord
from shared.storage.lead_creation import Creation, LeadCreationRepository, NewLead
from shared.storage.lead_document import LeadDocument
from shared.streams.publisher import Publisher


class LeadCreatedHandler:
    """Applies a batch in one transaction; every event has an outcome of its own."""

    def __init__(
        self, leads: LeadCreationRepository, cache: LeadCache, publisher: Publisher
    ) -> None:
        self._leads = leads
        self._cache = cache
        self._publisher = publisher

    async def __call__(self, events: Sequence[Event]) -> Sequence[Outcome]:
        """Apply the events; also those applied before, whose followers may not have heard."""
        created = await self._leads.create([_creation(event) for event in events])
        documents = [one.document for one in created if one.document is not None]
        # A lead that is new has no older copy in the cache, so the cache may be down.
        with contextlib.suppress(UnavailableError):
            await self._cache.put(documents)
        await self._publisher.publish_all([_changed(lead) for lead in documents])
        return [one.outcome for one in created]


def _creation(event: Event) -> Creation:
    data = cast("LeadCreated", event.data)
    lead = data.lead
    return Creation(
        EventRecord.of(event),
        NewLead(
            id=data.lead_id,
            external_id=lead.external_id,
            first_name=lead.first_name,
            last_name=lead.last_name,
            email=lead.email,
            email_key=email_key(lead.email),
            phone=lead.phone,
            cell=lead.cell,
            dob=lead.dob,
            city=lead.city,
            state=lead.state,
            country=lead.country,
            picture=lead.picture,
            source=data.source,
            created_by=data.created_by,
            created_at=event.time,
        ),
        replayed=event.replay_id is not None,
    )


def _changed(lead: LeadDocument) -> Event:
    data = LeadChanged(lead_id=lead.id, lead_version=lead.version, change="created")
    return Event(source="syncer", subject=str(lead.id), data=data)
