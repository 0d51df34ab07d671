"""lead-created: insert the leads that are new."""

from collections.abc import Sequence

from services.syncer.after_commit import AfterCommit, is_shown
from services.syncer.storage.creation import Creation, LeadCreationRepository
from services.syncer.storage.lead_row import NewLead
from shared.events.data import LeadCreated
from shared.events.envelope import Event
from shared.events.outcome import Outcome
from shared.storage.inbox import EventRecord


class LeadCreatedHandler:
    """Applies a batch in one transaction; every event has an outcome of its own."""

    def __init__(self, leads: LeadCreationRepository, after_commit: AfterCommit) -> None:
        self._leads = leads
        self._after_commit = after_commit

    async def __call__(self, events: Sequence[Event[LeadCreated]]) -> Sequence[Outcome]:
        """Apply the events; those applied before are only followed up."""
        results = await self._leads.create([_creation(event) for event in events])
        await self._after_commit(events, results)
        return [result.outcome for result in results]


def _creation(event: Event[LeadCreated]) -> Creation:
    lead = NewLead.of(event.data)
    return Creation(
        EventRecord.of(event, subject=lead.id),
        lead,
        replayed=event.replay_id is not None,
        is_shown=is_shown(event),
    )
