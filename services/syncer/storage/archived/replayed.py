"""Replayed events: their leads become what the archive says of them, whatever the event."""

from collections.abc import Collection
from dataclasses import replace
from uuid import UUID

from services.syncer.storage.archived.rebuilding import Rebuilt
from services.syncer.storage.locked_leads import LockedLeads
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.inbox import EventRecord, Inbox, WriteResult
from shared.storage.lead_document import deleted_lead
from shared.storage.pool import Connection

# Events that ended otherwise changed no lead.
_CHANGED = frozenset({OutcomeStatus.CREATED, OutcomeStatus.UPDATED, OutcomeStatus.DELETED})

_GONE = WriteResult(Outcome(OutcomeStatus.NOT_FOUND, repeated=True))


async def answer_replayed(
    connection: Connection, events: Collection[EventRecord]
) -> dict[UUID, WriteResult]:
    """Return the results of those replayed events that are archived, by their ids.

    The first event of a lead that was lost or behind brings it back as it was, and the others
    find it there.
    """
    inbox = await Inbox.open(connection, [event.id for event in events])
    earlier = {event.id: inbox.earlier(event) for event in events}
    results = {event_id: result for event_id, result in earlier.items() if result is not None}
    subjects = {
        event_id: UUID(inbox.subject(event_id))
        for event_id, result in results.items()
        if result.outcome.status in _CHANGED
    }
    leads = await LockedLeads.lock(connection, set(subjects.values()))
    for event_id, lead_id in subjects.items():
        results[event_id] = _answer(leads, lead_id, results[event_id])
    return results


def _answer(leads: LockedLeads, lead_id: UUID, earlier: WriteResult) -> WriteResult:
    lead, rebuilt = leads.document(lead_id), leads.take_rebuilt(lead_id)
    if rebuilt is not None and rebuilt.refusal is not None:
        return rebuilt.refusal
    if lead is None:
        return _answer_deleted(lead_id, earlier, rebuilt)
    change = None if rebuilt is None else rebuilt.change
    outcome = Outcome(earlier.outcome.status, lead.json, repeated=change is None)
    return replace(earlier, outcome=outcome, lead=lead, change=change)


def _answer_deleted(lead_id: UUID, earlier: WriteResult, rebuilt: Rebuilt | None) -> WriteResult:
    if rebuilt is None or rebuilt.change is None:
        return earlier if earlier.outcome.status is OutcomeStatus.DELETED else _GONE
    gone = deleted_lead(lead_id, rebuilt.version)
    return WriteResult(Outcome(OutcomeStatus.DELETED), gone, change="deleted")
