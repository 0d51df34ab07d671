"""Applying lead-created events: leads, their events and the dedupe, in one transaction."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from shared.domain.errors import TransientError
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.event_record import EventRecord
from shared.storage.lead_document import DOCUMENT_COLUMNS, LeadDocument
from shared.storage.lead_repository import document
from shared.storage.pool import Connection, Database


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLead:
    """The columns of a lead that its creation sets. Version and status have their defaults."""

    id: UUID
    external_id: UUID | None
    first_name: str
    last_name: str
    email: str
    email_key: str
    phone: str | None
    cell: str | None
    dob: str | None
    city: str | None
    state: str | None
    country: str | None
    picture: str | None
    source: str
    created_by: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Creation:
    """An event and the lead that it asks for.

    A `replayed` one whose lead is gone although it was made is made again.
    """

    event: EventRecord
    lead: NewLead
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Created:
    """What became of a creation; `document` is the lead, if there is one by this event."""

    outcome: Outcome
    document: LeadDocument | None = None


# One statement for the whole batch. Events known already are left out by their key, leads
# known already by theirs; what is new comes back. Rows are offered in the order of the
# arrays, so the earlier of two equals wins.
_INSERT = f"""
    WITH offered AS (
        SELECT * FROM unnest(
            $1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
            $7::timestamptz[], $8::text[], $9::bytea[],
            $10::uuid[], $11::uuid[], $12::text[], $13::text[], $14::text[], $15::text[],
            $16::text[], $17::text[], $18::text[], $19::text[], $20::text[], $21::text[],
            $22::text[], $23::text[], $24::text[], $25::timestamptz[]
        ) WITH ORDINALITY AS offered (
            event_id, type, event_source, subject, dataschema, data, time, correlation_id,
            payload_hash,
            id, external_id, first_name, last_name, email, email_key, phone, cell, dob,
            city, state, country, picture, source, created_by, created_at, position
        )
    ), event AS (
        INSERT INTO leads.event (
            id, type, source, subject, dataschema, data, time, correlation_id, payload_hash,
            outcome
        )
        SELECT event_id, type, event_source, subject, dataschema, data::jsonb, time,
               correlation_id, payload_hash, 'created'
        FROM offered ORDER BY position
        ON CONFLICT (id) DO NOTHING
        RETURNING id
    ), lead AS (
        INSERT INTO leads.lead (
            id, external_id, first_name, last_name, email, email_key, phone, cell, dob, city,
            state, country, picture, source, created_by, created_at, updated_at
        )
        SELECT offered.id, external_id, first_name, last_name, email, email_key, phone, cell,
               dob, city, state, country, picture, source, created_by, created_at, created_at
        FROM offered JOIN event ON event.id = offered.event_id ORDER BY position
        ON CONFLICT DO NOTHING
        RETURNING *
    )
    SELECT offered.event_id, {DOCUMENT_COLUMNS}
    FROM event
    JOIN offered ON offered.event_id = event.id
    LEFT JOIN lead ON lead.id = offered.id
"""  # noqa: S608 (constants)

_RESTORE = f"""
    INSERT INTO leads.lead AS lead (
        id, external_id, first_name, last_name, email, email_key, phone, cell, dob, city,
        state, country, picture, source, created_by, created_at, updated_at
    )
    SELECT *, created_at FROM unnest(
        $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
        $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[],
        $15::text[], $16::timestamptz[]
    ) AS lost (
        id, external_id, first_name, last_name, email, email_key, phone, cell, dob, city,
        state, country, picture, source, created_by, created_at
    )
    ON CONFLICT DO NOTHING
    RETURNING {DOCUMENT_COLUMNS}
"""  # noqa: S608 (constants)

_CONFLICTS = """
    SELECT DISTINCT ON (position) event_id, field, id FROM (
        SELECT offered.*, 1 AS rank, 'externalId' AS field, lead.id
        FROM unnest($1::uuid[], $2::uuid[], $3::text[]) WITH ORDINALITY
             AS offered (event_id, external_id, email_key, position)
        JOIN leads.lead USING (external_id)
        UNION ALL
        SELECT offered.*, 2, 'email', lead.id
        FROM unnest($1::uuid[], $2::uuid[], $3::text[]) WITH ORDINALITY
             AS offered (event_id, external_id, email_key, position)
        JOIN leads.lead USING (email_key)
    ) AS found ORDER BY position, rank
"""

_MARK_DUPLICATES = """
    UPDATE leads.event SET outcome = 'duplicate', detail = marked.detail::jsonb
    FROM unnest($1::uuid[], $2::text[]) AS marked (id, detail)
    WHERE event.id = marked.id
"""

_KNOWN = f"""
    SELECT event.id AS event_id, event.payload_hash, event.outcome, event.detail::text,
           {DOCUMENT_COLUMNS}
    FROM leads.event LEFT JOIN leads.lead ON lead.id::text = event.subject
    WHERE event.id = ANY($1::uuid[])
"""  # noqa: S608 (constants)


class LeadCreationRepository:
    """Writes new leads. Raises `UnavailableError`, or `TransientError` to have it repeated."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, creations: Sequence[Creation]) -> list[Created]:
        """Apply each creation once, all in one transaction; returns what became of each."""
        # An event may be in a batch twice, after a publication whose answer was lost.
        unique = {creation.event.id: creation for creation in creations}
        # Equal keys in one order in every process: batches may wait, but never in a circle.
        offered = sorted(unique.values(), key=lambda creation: creation.lead.email_key)
        async with self._database.transaction() as connection:
            rows = {row["event_id"]: row for row in await _insert(connection, offered)}
            created = {
                event_id: _created(row) for event_id, row in rows.items() if row["id"] is not None
            }
            refused = [one for one in offered if one.event.id in rows.keys() - created.keys()]
            created |= await _mark_duplicates(connection, refused)
            known = [one for one in offered if one.event.id not in created]
            created |= await _recall(connection, known)
            lost = [one for one in known if one.replayed and _is_lost(created[one.event.id])]
            created |= await _restore(connection, lost)
        return [created[creation.event.id] for creation in creations]


async def _insert(connection: Connection, offered: Sequence[Creation]) -> list[asyncpg.Record]:
    events = _columns([astuple(one.event) for one in offered])
    leads = _columns([astuple(one.lead) for one in offered])
    return await connection.fetch(_INSERT, *events, *leads)


async def _mark_duplicates(
    connection: Connection, refused: Sequence[Creation]
) -> dict[UUID, Created]:
    """Find what stood in the way of each refused lead, and note it with its event."""
    if not refused:
        return {}
    keys = [(one.event.id, one.lead.external_id, one.lead.email_key) for one in refused]
    conflicts = {
        row["event_id"]: row for row in await connection.fetch(_CONFLICTS, *_columns(keys))
    }
    if len(conflicts) < len(refused):
        raise TransientError("A lead that stood in the way is gone; the batch is worth another try")
    details = {
        one.event.id: orjson.dumps({"field": row["field"], "leadId": str(row["id"])}).decode()
        for one in refused
        # A lead in its own way was created before its event's row was lost.
        if (row := conflicts[one.event.id])["id"] != one.lead.id
    }
    await connection.execute(_MARK_DUPLICATES, list(details), list(details.values()))
    return {
        event_id: Created(Outcome(OutcomeStatus.DUPLICATE, detail.encode()))
        for event_id, detail in details.items()
    }


async def _recall(connection: Connection, known: Sequence[Creation]) -> dict[UUID, Created]:
    """Answer for events that were applied before, as they were answered then."""
    if not known:
        return {}
    hashes = {one.event.id: one.event.payload_hash for one in known}
    rows = await connection.fetch(_KNOWN, list(hashes))
    return {
        row["event_id"]: _recalled(row, same=row["payload_hash"] == hashes[row["event_id"]])
        for row in rows
    }


async def _restore(connection: Connection, lost: Sequence[Creation]) -> dict[UUID, Created]:
    """Make leads again that were made once and have vanished, exactly as they were."""
    if not lost:
        return {}
    events = {one.lead.id: one.event.id for one in lost}
    rows = await connection.fetch(_RESTORE, *_columns([astuple(one.lead) for one in lost]))
    return {events[row["id"]]: _created(row) for row in rows}


def _is_lost(recalled: Created) -> bool:
    return recalled.outcome.status == OutcomeStatus.NOT_FOUND


def _recalled(row: asyncpg.Record, *, same: bool) -> Created:
    if not same:
        return Created(Outcome(OutcomeStatus.KEY_REUSED, repeated=True))
    if row["outcome"] != OutcomeStatus.CREATED:
        detail = (row["detail"] or "{}").encode()
        return Created(Outcome(OutcomeStatus(row["outcome"]), detail, repeated=True))
    if row["id"] is None:
        return Created(Outcome(OutcomeStatus.NOT_FOUND, repeated=True))
    return _created(row, repeated=True)


def _created(row: asyncpg.Record, *, repeated: bool = False) -> Created:
    lead = document(row)
    return Created(Outcome(OutcomeStatus.CREATED, lead.json, repeated=repeated), lead)


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """Turn rows into the arrays that `unnest` takes."""
    return [list(column) for column in zip(*rows, strict=True)]
