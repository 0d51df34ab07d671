"""lead-deleted: delete leads, and forget the persons in cache, events and streams."""

from collections.abc import Sequence

from services.syncer.after_commit import is_news, lead_changed
from services.syncer.storage.deletion import Deleted, Deletion, LeadDeletionRepository
from services.syncer.storage.erasure import StreamErasure
from shared.cache.lead_cache import LeadCache
from shared.events.envelope import Event
from shared.events.lead_events import LeadDeleted
from shared.events.outcome import Outcome
from shared.storage.inbox import EventRecord
from shared.streams.publisher import Publisher


class LeadDeletedHandler:
    """Applies a batch in one transaction; every event has an outcome of its own."""

    def __init__(
        self,
        leads: LeadDeletionRepository,
        cache: LeadCache,
        publisher: Publisher,
        erasure: StreamErasure,
    ) -> None:
        self._leads = leads
        self._cache = cache
        self._publisher = publisher
        self._erasure = erasure

    async def __call__(self, events: Sequence[Event[LeadDeleted]]) -> Sequence[Outcome]:
        """Apply the events; also those applied before, whose followers may not have heard."""
        ended = await self._leads.delete([_deletion(event) for event in events])
        gone = [
            (event, one.deleted)
            for event, one in zip(events, ended, strict=True)
            if one.deleted is not None and is_news(event, one.outcome)
        ]
        await self._forget([deleted for _, deleted in gone])
        await self._publisher.publish_all(
            [
                lead_changed(event, deleted.lead_id, version=deleted.version, change="deleted")
                for event, deleted in gone
            ]
        )
        return [one.outcome for one in ended]

    async def _forget(self, deleted: Sequence[Deleted]) -> None:
        if not deleted:
            return
        for one in deleted:
            await self._cache.mark_deleted(one.lead_id, one.external_id, version=one.version)
        lead_ids = [one.lead_id for one in deleted]
        await self._erasure.make_due(lead_ids)
        await self._erasure.erase(await self._leads.erased(lead_ids))


def _deletion(event: Event[LeadDeleted]) -> Deletion:
    data = event.data
    return Deletion(
        event=EventRecord.of(event, subject=data.lead_id),
        lead_id=data.lead_id,
        expected_version=data.expected_version,
        attempt=event.attempt,
        replayed=event.replay_id is not None,
    )
