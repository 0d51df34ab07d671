"""lead-updated: change leads as persons want them, cache them, and tell of it."""

from collections.abc import Sequence

from services.syncer.after_commit import Aftermath
from services.syncer.storage.held_leads import Change
from services.syncer.storage.update import ChangeOrder, LeadUpdateRepository, Update
from shared.events.envelope import Event
from shared.events.lead_events import LeadUpdated
from shared.events.outcome import Outcome
from shared.storage.inbox import EventRecord


class LeadUpdatedHandler:
    """Applies a batch in one transaction; every event has an outcome of its own."""

    def __init__(self, leads: LeadUpdateRepository, aftermath: Aftermath) -> None:
        self._leads = leads
        self._aftermath = aftermath

    async def __call__(self, events: Sequence[Event[LeadUpdated]]) -> Sequence[Outcome]:
        """Apply the events; also those applied before, whose followers may not have heard."""
        applied = await self._leads.update([_update(event) for event in events])
        await self._aftermath(events, applied)
        return [one.outcome for one in applied]


def _update(event: Event[LeadUpdated]) -> Update:
    data = event.data
    order = ChangeOrder(
        event=EventRecord.of(event, subject=data.lead_id),
        lead_id=data.lead_id,
        change=Change(values=data.changes.given(), changed_at=event.time, by_person=True),
        attempt=event.attempt,
        replayed=event.replay_id is not None,
    )
    return Update(order, data.expected_version)
