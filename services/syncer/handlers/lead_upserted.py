"""lead-upserted: change the lead with an externalId, or make it."""

from collections.abc import Sequence
from dataclasses import replace

from services.syncer.after_commit import AfterCommit, is_shown
from services.syncer.storage.creation import Creation
from services.syncer.storage.lead_row import Change, NewLead
from services.syncer.storage.upsert import LeadUpsertRepository, Upsert
from shared.events.data import LeadUpserted
from shared.events.envelope import Event
from shared.events.outcome import Outcome
from shared.storage.inbox import EventRecord, WriteResult


class LeadUpsertedHandler:
    """Applies a batch in one transaction; every event has an outcome of its own."""

    def __init__(self, leads: LeadUpsertRepository, after_commit: AfterCommit) -> None:
        self._leads = leads
        self._after_commit = after_commit

    async def __call__(self, events: Sequence[Event[LeadUpserted]]) -> Sequence[Outcome]:
        """Apply the events; those applied before are only followed up."""
        results = await self._leads.upsert([_upsert(event) for event in events])
        await self._after_commit(events, results)
        return [_outcome(result) for result in results]


def _outcome(result: WriteResult) -> Outcome:
    # The event names the lead that it would make.
    lead_id = None if result.lead is None else result.lead.id
    return replace(result.outcome, lead_id=lead_id)


def _upsert(event: Event[LeadUpserted]) -> Upsert:
    data = event.data
    creation = Creation(
        EventRecord.of(event, subject=data.lead_id),
        NewLead.of(data),
        replayed=event.replay_id is not None,
        is_shown=is_shown(event),
    )
    return Upsert(
        external_id=data.external_id,
        key=event.key,
        creation=creation,
        change=Change.of(data),
        put_back=event.was_put_back,
    )
