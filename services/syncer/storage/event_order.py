"""Events that overtake those they build on: what waits for them, and what a replay does again."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from services.syncer.storage.locked_leads import Change, LockedLeads
from services.syncer.storage.tombstones import is_deleted
from shared.domain.errors import TransientError
from shared.events.envelope import now
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.inbox import EventRecord, WriteResult
from shared.storage.pool import Connection

# How often an event is tried before what it waits for counts as never to come.
PATIENT_ATTEMPTS = 3

# How old a lead can be before its creation must have been seen.
YOUNG = timedelta(minutes=1)

_TIME_ORDERED = 7
_TIME_SHIFT = 80

# Summaries make versions too, but no replay of them does.
_PASSED_OVER = """
    SELECT EXISTS (
        SELECT FROM leads.event
        WHERE subject = $1 AND outcome = 'updated'
          AND (detail ->> 'version')::bigint > $2 AND (detail ->> 'version')::bigint < $3
    )
"""

_GONE = WriteResult(Outcome(OutcomeStatus.NOT_FOUND, repeated=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """An event that changes a lead, which is still in `expected_version` if there is one.

    `key`, `attempt` and `replayed` are as in the event's envelope.
    """

    event: EventRecord
    key: str
    lead_id: UUID
    change: Change
    attempt: int
    replayed: bool
    expected_version: int | None = None


async def change_again(
    connection: Connection, leads: LockedLeads, update: Update, earlier: WriteResult
) -> WriteResult:
    """Answer an event that changed the lead before; a replay may have to do it once more."""
    if earlier.outcome.status is not OutcomeStatus.UPDATED:
        return earlier
    lead = leads.document(update.lead_id)
    if update.replayed and earlier.version is not None:
        if lead is None:
            await wait_for_creation(
                connection, update.lead_id, attempt=update.attempt, replayed=True
            )
        elif lead.version < earlier.version:
            return await _redo(connection, leads, update, earlier)
    if lead is None:
        return _GONE
    change = None if earlier.version is None else "updated"
    return replace(
        earlier, outcome=replace(earlier.outcome, body=lead.json), lead=lead, change=change
    )


async def _redo(
    connection: Connection, leads: LockedLeads, update: Update, earlier: WriteResult
) -> WriteResult:
    """Make a version that was lost, unless one before it is to be made first."""
    lead = leads.document(update.lead_id)
    if lead is None:
        return _GONE
    if await connection.fetchval(_PASSED_OVER, str(lead.id), lead.version, earlier.version):
        _wait(update.attempt, "An earlier change of the lead is not there yet")
        return WriteResult(Outcome(OutcomeStatus.UPDATED, lead.json, repeated=True), lead)
    result = await leads.change(update.lead_id, update.change, again=earlier)
    return replace(result, outcome=replace(result.outcome, repeated=result.change is None))


def misplaced(key: str, *, lead_key: UUID) -> WriteResult | None:
    """Return the forwarding of an event whose partition key is another one than its lead's.

    Who sent it did not know better, by an old copy of the lead or before its externalId changed.
    """
    return None if key == str(lead_key) else WriteResult.forwarded(lead_key)


async def wait_for_creation(
    connection: Connection, lead_id: UUID, *, attempt: int, replayed: bool
) -> None:
    """Raise `TransientError` when the event that makes this lead may still be under way."""
    if (replayed or _is_young(lead_id)) and not await is_deleted(connection, lead_id):
        _wait(attempt, "The lead is not there yet")


def _wait(attempt: int, reason: str) -> None:
    """Raise `TransientError` unless this event has been tried often enough."""
    if attempt < PATIENT_ATTEMPTS:
        raise TransientError(reason)


def _is_young(lead_id: UUID) -> bool:
    # A UUIDv7 begins with its time; other ids do not say their age.
    if lead_id.version != _TIME_ORDERED:
        return False
    made_at = datetime.fromtimestamp((lead_id.int >> _TIME_SHIFT) / 1000, UTC)
    return abs(now() - made_at) < YOUNG
