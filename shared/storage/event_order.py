"""Events that overtake those they build on: waiting for these, but not for ever."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from shared.domain.errors import TransientError
from shared.events.envelope import now

# How often an event is tried before what it waits for counts as never to come.
PATIENT_ATTEMPTS = 3

# How old a lead can be before its creation must have been seen.
YOUNG = timedelta(minutes=1)

_TIME_ORDERED = 7
_TIME_SHIFT = 80


def wait_for_creation(lead_id: UUID, *, attempt: int, replayed: bool) -> None:
    """Raise `TransientError` when the event that makes this lead may still be under way."""
    if replayed or _is_young(lead_id):
        wait(attempt, "The lead is not there yet")


def wait(attempt: int, reason: str) -> None:
    """Raise `TransientError` unless this event has been tried often enough."""
    if attempt < PATIENT_ATTEMPTS:
        raise TransientError(reason)


def _is_young(lead_id: UUID) -> bool:
    # A UUIDv7 begins with its time; of other ids nobody knows their age.
    if lead_id.version != _TIME_ORDERED:
        return False
    made_at = datetime.fromtimestamp((lead_id.int >> _TIME_SHIFT) / 1000, UTC)
    return abs(now() - made_at) < YOUNG
