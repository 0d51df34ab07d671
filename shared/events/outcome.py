"""How an event ended: stored with its effect, and sent to the client that waits for it."""

from dataclasses import field
from enum import StrEnum
from uuid import UUID

from shared.domain.values import value


class OutcomeStatus(StrEnum):
    """Every way an event can end; one that is forwarded goes on elsewhere."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"
    ERASED = "erased"
    VERSION_MISMATCH = "version-mismatch"
    DUPLICATE = "duplicate"
    KEY_REUSED = "key-reused"
    SYNCED = "synced"
    IMPORTED = "imported"
    SUMMARISED = "summarised"
    REUSED = "reused"
    NOT_FOUND = "not-found"
    FAILED = "failed"
    DEAD = "dead"
    JOINED = "joined"
    FORWARDED = "forwarded"
    OVERTAKEN = "overtaken"


@value()
class Outcome:
    """An event's end and its JSON: the lead, or why there is none.

    `repeated` says that the event had been applied before and nothing changed now. With
    `answered=False` the runtime sends no reply: another process does later, or nobody waits.
    `lead_id` is of the lead where that may be another one than the event names.
    """

    status: OutcomeStatus
    body: bytes = b"{}"
    answered: bool = True
    repeated: bool = field(default=False, compare=False)
    lead_id: UUID | None = field(default=None, compare=False)
