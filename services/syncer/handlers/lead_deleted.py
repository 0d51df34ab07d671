"""lead-deleted: delete leads, and forget the persons in cache, events and streams."""

from collections.abc import Sequence

from services.syncer.after_commit import AfterCommit
from services.syncer.storage.deletion import Deletion, LeadDeletionRepository
from shared.events.data import LeadDeleted
from shared.events.envelope import Event
from shared.events.outcome import Outcome
from shared.storage.inbox import EventRecord


class LeadDeletedHandler:
    """Applies a batch in one transaction; every event has an outcome of its own."""

    def __init__(self, leads: LeadDeletionRepository, after_commit: AfterCommit) -> None:
        self._leads = leads
        self._after_commit = after_commit

    async def __call__(self, events: Sequence[Event[LeadDeleted]]) -> Sequence[Outcome]:
        """Apply the events; those applied before are only followed up."""
        results = await self._leads.delete([_deletion(event) for event in events])
        await self._after_commit(events, results)
        return [result.outcome for result in results]


def _deletion(event: Event[LeadDeleted]) -> Deletion:
    data = event.data
    return Deletion(
        event=EventRecord.of(event, subject=data.lead_id),
        key=event.key,
        lead_id=data.lead_id,
        expected_version=data.expected_version,
        replayed=event.replay_id is not None,
    )
