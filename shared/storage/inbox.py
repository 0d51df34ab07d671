"""The inbox: which events were applied, and what applying them did."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass, replace
from datetime import datetime
from typing import Any, Self
from uuid import UUID

import orjson

from shared.domain.values import value
from shared.events.envelope import Event
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.lead_document import LeadDocument
from shared.storage.pool import Connection, Database


@value(kw_only=True)
class EventRecord:
    """The columns of `leads.event` that come from the event itself; `data` is its JSON.

    The table is inbox, idempotency record and archive.
    """

    id: UUID
    type: str
    source: str
    subject: str
    dataschema: str
    data: str
    time: datetime
    correlation_id: str
    payload_hash: bytes
    accepted: str | None = None

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
            accepted=event.accepted,
        )


def payload_hash(event: Event) -> bytes:
    """Return SHA-256 of what the event asks for: equal for a repeat, other for another wish."""
    return hashlib.sha256(f"{event.type}\n{event.data.intent()}".encode()).digest()


@value()
class WriteResult:
    """What applying an event did.

    `lead` is the lead as it is now, if there is one to show; one that is deleted has no JSON.
    `change` is what the event did to it, as in lead-changed, if it did anything. `detail` is
    the JSON of the outcome that is kept with the event, `applied_at` the stamp that the lead got,
    `changed` the columns that got new values. With `forward_to` the event was not applied: it is to
    be published again under this key.
    """

    outcome: Outcome
    lead: LeadDocument | None = None
    change: str | None = None
    detail: str | None = None
    applied_at: datetime | None = None
    changed: tuple[str, ...] = ()
    forward_to: str | None = None

    @classmethod
    def forwarded(cls, partition_key: UUID) -> Self:
        """Return the result of an event that is its lead's, but not in its lead's partition."""
        outcome = Outcome(OutcomeStatus.FORWARDED, answered=False)
        return cls(outcome, forward_to=str(partition_key))

    @classmethod
    def refusal(cls, status: OutcomeStatus, **detail: Any) -> Self:
        """Return the result of an event that changed nothing; `detail` says why."""
        body = orjson.dumps(detail)
        return cls(Outcome(status, body), detail=body.decode() if detail else None)

    @property
    def version(self) -> int | None:
        """The version of the lead that the event made when it was applied, if it made one."""
        if self.detail is None:
            return None
        version: int | None = orjson.loads(self.detail).get("version")
        return version


_KNOWN = """
    SELECT id, payload_hash, outcome AS status, detail::text, subject
    FROM leads.event WHERE id = ANY($1::uuid[])
"""
_RECORD = """
    INSERT INTO leads.event (
        id, type, source, subject, dataschema, data, time, correlation_id, payload_hash, accepted,
        outcome, detail, applied_at, changed
    )
    SELECT id, type, source, subject, dataschema, data::jsonb, time, correlation_id,
           payload_hash, accepted, outcome, detail::jsonb,
           coalesce(applied_at, leads.stamp()), string_to_array(changed, ' ')
    FROM unnest(
        $1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
        $7::timestamptz[], $8::text[], $9::bytea[], $10::text[], $11::text[], $12::text[],
        $13::timestamptz[], $14::text[]
    ) AS applied (
        id, type, source, subject, dataschema, data, time, correlation_id, payload_hash, accepted,
        outcome, detail, applied_at, changed
    )
"""


@dataclass(frozen=True, slots=True)
class _Applied:
    """A row of the event table."""

    id: UUID
    payload_hash: bytes
    status: str
    detail: str | None
    subject: str


class Inbox:
    """The event table within a transaction: the events of a batch, before and after."""

    def __init__(self, connection: Connection, rows: dict[UUID, _Applied]) -> None:
        self._connection = connection
        self._rows = rows
        self._new: list[tuple[EventRecord, WriteResult]] = []

    @classmethod
    async def open(cls, connection: Connection, event_ids: Collection[UUID]) -> Self:
        """Look which of these events were applied before."""
        rows = await connection.fetch(_KNOWN, list(event_ids))
        return cls(connection, {row["id"]: _Applied(**row) for row in rows})

    def earlier(self, event: EventRecord) -> WriteResult | None:
        """Return the result of an event that was applied before; `key-reused` for another one."""
        row = self._rows.get(event.id)
        if row is None:
            return None
        if row.payload_hash != event.payload_hash:
            return WriteResult(Outcome(OutcomeStatus.KEY_REUSED, repeated=True))
        body = (row.detail or "{}").encode()
        return WriteResult(
            Outcome(OutcomeStatus(row.status), body, repeated=True), detail=row.detail
        )

    def subject(self, event_id: UUID) -> str:
        """Return what an applied event was about."""
        return self._rows[event_id].subject

    def add(self, event: EventRecord, result: WriteResult) -> None:
        """Note an event that is applied in this transaction; one that is forwarded is not."""
        if result.forward_to is not None:
            return
        self._rows[event.id] = _Applied(
            event.id,
            event.payload_hash,
            result.outcome.status,
            result.detail,
            event.subject,
        )
        self._new.append((event, result))

    async def write(self) -> None:
        """Write what was added; raises the driver's error when another process just did."""
        if not self._new:
            return
        rows = [
            (
                *astuple(_kept(event, result)),
                *(result.outcome.status, result.detail, result.applied_at),
                " ".join(result.changed),  # arrays of arrays all have one length
            )
            for event, result in self._new
        ]
        await self._connection.execute(_RECORD, *columns(rows))


def columns(rows: Collection[tuple[Any, ...]]) -> list[list[Any]]:
    """Turn rows into the arrays that `unnest` takes."""
    return [list(column) for column in zip(*rows, strict=True)]


def _kept(event: EventRecord, result: WriteResult) -> EventRecord:
    # What had no effect on anybody need not be known of anybody.
    if result.outcome.status is OutcomeStatus.NOT_FOUND:
        return replace(event, data="{}")
    return event


# The event table read.

# A dead letter is an end as well, until an operator retries it.
_ENDS = """
    SELECT id, outcome, detail::text FROM leads.event WHERE id = ANY($1::uuid[])
    UNION ALL
    SELECT event_id::uuid, 'dead', NULL FROM leads.dead_letter
    WHERE consumer_group = 'syncer' AND event_id = ANY($2::text[])
      AND event_id::uuid NOT IN (SELECT id FROM leads.event WHERE id = ANY($1::uuid[]))
"""
_APPLIED = "SELECT id FROM leads.event WHERE id = ANY($1::uuid[])"
_IS_APPLIED = "SELECT EXISTS (SELECT FROM leads.event WHERE id = $1)"


class EventStore:
    """Reads how events ended. Raises `UnavailableError` when PostgreSQL is down."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
        """Return whether an event's effect is in the database."""
        async with self._database.connection() as connection:
            return bool(await connection.fetchval(_IS_APPLIED, event_id))

    async def applied(self, event_ids: Sequence[UUID]) -> set[UUID]:
        """Return those whose effect is in the database."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_APPLIED, list(event_ids))
        return {row["id"] for row in rows}
