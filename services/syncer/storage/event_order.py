"""Events that overtake those they build on, or come once more."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from services.syncer.storage.lead_row import Change
from services.syncer.storage.locked_leads import LockedLeads
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


def change_again(leads: LockedLeads, update: Update, earlier: WriteResult) -> WriteResult:
    """Answer an event that changed the lead before, and came once more."""
    if earlier.outcome.status is not OutcomeStatus.UPDATED:
        return earlier
    lead = leads.document(update.lead_id)
    if lead is None:
        return _GONE
    change = None if earlier.version is None else "updated"
    return replace(
        earlier, outcome=replace(earlier.outcome, body=lead.json), lead=lead, change=change
    )


def misplaced(key: str, *, lead_key: UUID) -> WriteResult | None:
    """Return the forwarding of an event whose partition key is another one than its lead's.

    Who sent it did not know better, by an old copy of the lead or before its externalId changed.
    """
    return None if key == str(lead_key) else WriteResult.forwarded(lead_key)


async def wait_for_creation(
    connection: Connection, lead_id: UUID, *, attempt: int, replayed: bool
) -> None:
    """Raise `TransientError` when the event that makes this lead may still be under way."""
    if attempt >= PATIENT_ATTEMPTS or not (replayed or _is_young(lead_id)):
        return
    if not await is_deleted(connection, lead_id):
        raise TransientError("The lead is not there yet")


def _is_young(lead_id: UUID) -> bool:
    # A UUIDv7 begins with its time; other ids do not say their age.
    if lead_id.version != _TIME_ORDERED:
        return False
    made_at = datetime.fromtimestamp((lead_id.int >> _TIME_SHIFT) / 1000, UTC)
    return abs(now() - made_at) < YOUNG
