"""The state of accepted events, read from the tables that their consumers write."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

import orjson

from shared.events.data import ImportRequested
from shared.events.outcome import OutcomeStatus
from shared.storage.pool import Database

# A summary's own row knows more than its event's: the model may still be working on it.
_SUMMARY = "SELECT lead_id, state, reason, detail FROM leads.summary WHERE id = $1"
_EVENT = "SELECT type, subject, outcome, detail::text FROM leads.event WHERE id = $1"
_DEAD_LETTER = "SELECT reason FROM leads.dead_letter WHERE event_id = $1::text"

_SUCCESSES = frozenset(
    {
        OutcomeStatus.CREATED,
        OutcomeStatus.UPDATED,
        OutcomeStatus.DELETED,
        OutcomeStatus.SUMMARISED,
        OutcomeStatus.SYNCED,
    }
)


class OperationStatus(StrEnum):
    """How far an operation has come."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """An operation's state. `code` says why it failed; `details` are that failure's own.

    `progress` is of an import: how many rows had which outcome. `ignored_columns` are those of
    its columns whose values were not imported.
    """

    status: OperationStatus
    lead_id: str | None = None
    code: str | None = None
    details: dict[str, Any] | None = None
    progress: dict[str, int] | None = None
    is_dry_run: bool = False
    ignored_columns: Sequence[str] = ()


class OperationRepository:
    """Reads operations by their event's id."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_operation(self, event_id: UUID) -> Operation | None:
        """Return the operation, unless no consumer has begun it yet."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_SUMMARY, event_id)
            if row is not None:
                return _summary(str(row["lead_id"]), row["state"], row["reason"], row["detail"])
            row = await connection.fetchrow(_EVENT, event_id)
            if row is not None and row["type"] == ImportRequested.type:
                return _import(row["outcome"], row["detail"])
            if row is not None:
                return _applied(row["subject"], row["outcome"], row["detail"])
            reason = await connection.fetchval(_DEAD_LETTER, str(event_id))
        if reason is None:
            return None
        return Operation(status=OperationStatus.FAILED, code=reason)


def _summary(lead_id: str, state: str, reason: str | None, detail: str | None) -> Operation:
    match state:
        case "succeeded":
            return Operation(status=OperationStatus.SUCCEEDED, lead_id=lead_id)
        case "failed":
            return Operation(
                status=OperationStatus.FAILED,
                lead_id=lead_id,
                code=reason,
                details={"detail": detail} if detail else None,
            )
        case _:
            return Operation(status=OperationStatus.PENDING, lead_id=lead_id)


def _import(outcome: str, detail: str | None) -> Operation:
    details = orjson.loads(detail or b"{}")
    progress, is_dry_run = details.pop("progress"), details.pop("dryRun")
    ignored_columns = details.pop("ignoredColumns", ())
    is_done = outcome == OutcomeStatus.IMPORTED
    return Operation(
        status=OperationStatus.SUCCEEDED if is_done else OperationStatus.FAILED,
        code=None if is_done else details.pop("code"),
        details=details,
        progress=progress,
        is_dry_run=is_dry_run,
        ignored_columns=ignored_columns,
    )


def _applied(subject: str, outcome: str, detail: str | None) -> Operation:
    if outcome == "accepted":  # a summary between two statements of its repository
        return Operation(status=OperationStatus.PENDING, lead_id=subject)
    if outcome in _SUCCESSES:
        return Operation(status=OperationStatus.SUCCEEDED, lead_id=subject)
    details = None if detail is None else orjson.loads(detail)
    return Operation(status=OperationStatus.FAILED, code=outcome, details=details)
