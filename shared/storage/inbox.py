"""Which events were applied before, what became of them, and the note of those applied now."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass, replace
from datetime import datetime
from typing import Any, Self
from uuid import UUID

import orjson

from shared.events.envelope import Event
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.lead_document import LeadDocument
from shared.storage.pool import Connection, Database

# An event as the event table keeps it: inbox, idempotency record and archive.


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """The columns of `leads.event` that come from the event itself; `data` is its JSON."""

    id: UUID
    type: str
    source: str
    subject: str
    dataschema: str
    data: str
    time: datetime
    correlation_id: str
    payload_hash: bytes

    @classmethod
    def of(cls, event: Event, *, subject: UUID | None = None) -> Self:
        """Return the record of an event, about the lead `subject` whatever its sender says."""
        return cls(
            id=event.id,
            type=event.type,
            source=event.source,
            subject=event.subject if subject is None else str(subject),
            dataschema=event.data.schema_uri(),
            data=event.data.model_dump_json(),
            time=event.time,
            correlation_id=event.correlation_id,
            payload_hash=payload_hash(event),
        )


def payload_hash(event: Event) -> bytes:
    """Return SHA-256 of what the event asks for: equal for a repeat, other for another wish."""
    return hashlib.sha256(f"{event.type}\n{event.data.intent()}".encode()).digest()


# The event table: what became of the events that were applied.

# A dead letter is an end as well, until somebody retries it.
_ENDS = """
    SELECT id, outcome, detail::text FROM leads.event WHERE id = ANY($1::uuid[])
    UNION ALL
    SELECT event_id::uuid, 'dead', NULL FROM leads.dead_letter
    WHERE consumer_group = 'syncer' AND event_id = ANY($2::text[])
      AND event_id::uuid NOT IN (SELECT id FROM leads.event WHERE id = ANY($1::uuid[]))
"""
_OUTCOMES = "SELECT id, outcome FROM leads.event WHERE id = ANY($1::uuid[])"


class EventStore:
    """Reads applied events. Raises `UnavailableError` when PostgreSQL is down."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def outcomes(self, event_ids: Sequence[UUID]) -> dict[UUID, str]:
        """Return the outcome of each of these events that was applied."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_OUTCOMES, list(event_ids))
        return {row["id"]: row["outcome"] for row in rows}

    async def ends(
        self, event_ids: Sequence[UUID]
    ) -> dict[UUID, tuple[OutcomeStatus, dict[str, Any]]]:
        """Return the outcome of each that has come to an end in the syncer, and its detail."""
        texts = [str(event_id) for event_id in event_ids]
        async with self._database.connection() as connection:
            rows = await connection.fetch(_ENDS, list(event_ids), texts)
        return {
            row["id"]: (OutcomeStatus(row["outcome"]), orjson.loads(row["detail"] or b"{}"))
            for row in rows
        }

    async def is_applied(self, event_id: UUID) -> bool:
        """Tell whether an event's effect is in the database."""
        return bool(await self.outcomes([event_id]))


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
