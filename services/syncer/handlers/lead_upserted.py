"""lead-upserted: change the lead with an externalId or make it, cache it, and tell of it."""

from collections.abc import Sequence

from services.syncer.after_commit import Aftermath
from services.syncer.storage.creation import Creation, new_lead
from services.syncer.storage.held_leads import Change
from services.syncer.storage.upsert import LeadUpsertRepository, Upsert
from shared.domain.lead import LeadSource
from shared.events.envelope import Event
from shared.events.lead_events import LeadUpserted
from shared.events.outcome import Outcome
from shared.storage.inbox import EventRecord


class LeadUpsertedHandler:
    """Applies a batch in one transaction; every event has an outcome of its own."""

    def __init__(self, leads: LeadUpsertRepository, aftermath: Aftermath) -> None:
        self._leads = leads
        self._aftermath = aftermath

    async def __call__(self, events: Sequence[Event[LeadUpserted]]) -> Sequence[Outcome]:
        """Apply the events; also those applied before, whose followers may not have heard."""
        applied = await self._leads.upsert([_upsert(event) for event in events])
        await self._aftermath(events, applied)
        return [one.outcome for one in applied]


def _upsert(event: Event[LeadUpserted]) -> Upsert:
    data = event.data
    lead = data.lead.model_copy(update={"external_id": data.external_id})
    creation = Creation(
        EventRecord.of(event, subject=data.lead_id),
        new_lead(event, lead, lead_id=data.lead_id, source=data.source, created_by=data.created_by),
        replayed=event.replay_id is not None,
    )
    change = Change(
        values=lead.given(),
        changed_at=event.time,
        by_person=data.source == LeadSource.MANUAL,
    )
    return Upsert(creation=creation, change=change, attempt=event.attempt)
