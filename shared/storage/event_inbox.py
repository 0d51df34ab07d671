"""Which events were applied before, what became of them, and the note of those applied now."""

from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any
from uuid import UUID

import orjson

from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.event_record import EventRecord
from shared.storage.lead_document import LeadDocument
from shared.storage.pool import Connection

_RECALL = """
    SELECT id, payload_hash, outcome, detail::text, subject
    FROM leads.event WHERE id = ANY($1::uuid[])
"""
_RECORD = """
    INSERT INTO leads.event (
        id, type, source, subject, dataschema, data, time, correlation_id, payload_hash,
        outcome, detail
    )
    SELECT id, type, source, subject, dataschema, data::jsonb, time, correlation_id,
           payload_hash, outcome, detail::jsonb
    FROM unnest(
        $1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
        $7::timestamptz[], $8::text[], $9::bytea[], $10::text[], $11::text[]
    ) AS applied (
        id, type, source, subject, dataschema, data, time, correlation_id, payload_hash,
        outcome, detail
    )
"""


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of an event.

    `document` is the lead as it is now, when there is one to show; `change` is what the event
    did to it, as in lead-changed, if it did anything.
    """

    outcome: Outcome
    document: LeadDocument | None = None
    change: str | None = None


@dataclass(frozen=True, slots=True)
class Recalled:
    """An event that was applied before, and its end; `detail` is JSON."""

    payload_hash: bytes
    status: OutcomeStatus
    detail: str | None
    subject: str

    @property
    def version(self) -> int | None:
        """Return the version of the lead that the event made, if it made one."""
        if self.detail is None:
            return None
        version: int | None = orjson.loads(self.detail).get("version")
        return version

    def repeated(self, event: EventRecord) -> Applied:
        """Return the answer to an event that has come again, or to another one under its id."""
        if event.payload_hash != self.payload_hash:
            return Applied(Outcome(OutcomeStatus.KEY_REUSED, repeated=True))
        return Applied(Outcome(self.status, (self.detail or "{}").encode(), repeated=True))


@dataclass(frozen=True, slots=True)
class Ended:
    """An event applied now and its end; `detail` is JSON."""

    event: EventRecord
    status: OutcomeStatus
    detail: str | None = None

    @property
    def recalled(self) -> Recalled:
        """Return what a repetition of the event finds."""
        return Recalled(self.event.payload_hash, self.status, self.detail, self.event.subject)


async def recall(connection: Connection, event_ids: Collection[UUID]) -> dict[UUID, Recalled]:
    """Return those events that were applied before."""
    rows = await connection.fetch(_RECALL, list(event_ids))
    return {
        row["id"]: Recalled(
            row["payload_hash"], OutcomeStatus(row["outcome"]), row["detail"], row["subject"]
        )
        for row in rows
    }


async def record(connection: Connection, ended: Sequence[Ended]) -> None:
    """Keep events with their ends; raises the driver's error when another process just did."""
    if ended:
        rows = [(*astuple(_kept(one)), one.status, one.detail) for one in ended]
        await connection.execute(_RECORD, *columns(rows))


def columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """Turn rows into the arrays that `unnest` takes."""
    return [list(column) for column in zip(*rows, strict=True)]


def _kept(ended: Ended) -> EventRecord:
    # What had no effect on anybody need not be known of anybody.
    if ended.status is OutcomeStatus.NOT_FOUND:
        return replace(ended.event, data="{}")
    return ended.event
