"""lead-updated: change leads as persons want them."""

from collections.abc import Sequence

from services.syncer.after_commit import AfterCommit
from services.syncer.storage.event_order import Update
from services.syncer.storage.lead_row import Change
from services.syncer.storage.update import LeadUpdateRepository
from shared.events.data import LeadUpdated
from shared.events.envelope import Event
from shared.events.outcome import Outcome
from shared.storage.inbox import EventRecord


class LeadUpdatedHandler:
    """Applies a batch in one transaction; every event has an outcome of its own."""

    def __init__(self, leads: LeadUpdateRepository, after_commit: AfterCommit) -> None:
        self._leads = leads
        self._after_commit = after_commit

    async def __call__(self, events: Sequence[Event[LeadUpdated]]) -> Sequence[Outcome]:
        """Apply the events; those applied before are only followed up."""
        results = await self._leads.update([_update(event) for event in events])
        await self._after_commit(events, results)
        return [result.outcome for result in results]


def _update(event: Event[LeadUpdated]) -> Update:
    data = event.data
    return Update(
        event=EventRecord.of(event, subject=data.lead_id),
        key=event.key,
        lead_id=data.lead_id,
        change=Change.of(data),
        replayed=event.replay_id is not None,
        put_back=event.was_put_back,
        expected_version=data.expected_version,
    )
