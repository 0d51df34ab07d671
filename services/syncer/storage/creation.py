"""Applying lead-created events: leads, their events and the dedupe, in one transaction."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from services.syncer.storage.archived.replayed import answer_replayed
from services.syncer.storage.conflicts import find_conflicts
from services.syncer.storage.lead_row import NewLead, with_columns
from services.syncer.storage.tombstones import are_overtaken, unblock
from shared.domain.errors import TransientError
from shared.domain.lead import LeadSource
from shared.domain.values import value
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.inbox import EventRecord, WriteResult, columns
from shared.storage.lead_document import document
from shared.storage.pool import Connection, Database, retry_unique_violation
from shared.storage.prepared_statements import load_sql

_CREATE = with_columns(load_sql(__file__, "creation.sql"))
# What is not to come back is not kept with the event either.
_MARK = """
    UPDATE leads.event SET
        outcome = marked.outcome, detail = marked.detail::jsonb,
        data = CASE WHEN marked.outcome = 'duplicate' THEN data ELSE '{}' END
    FROM unnest($1::uuid[], $2::text[], $3::text[]) AS marked (id, outcome, detail)
    WHERE event.id = marked.id
"""
_EARLIER = """
    SELECT event.id AS event_id, event.payload_hash, event.outcome, event.detail::text,
           lead.id, lead.external_id, lead.version, leads.partition_key(lead) AS partition_key,
           leads.lead_json(lead) AS json
    FROM leads.event LEFT JOIN leads.lead ON lead.id = event.subject::uuid
    WHERE event.id = ANY($1::uuid[])
"""


@value()
class Creation:
    """An event and the lead that it asks for; `is_shown` unless nobody is to see it at once."""

    event: EventRecord
    lead: NewLead
    replayed: bool = False
    is_shown: bool = True

    def row(self) -> dict[str, Any]:
        """Return what `creation.sql` takes of the event, for JSON."""
        return {
            "event_id": self.event.id,
            "event_type": self.event.type,
            "event_source": self.event.source,
            "subject": self.event.subject,
            "dataschema": self.event.dataschema,
            "time": self.event.time,
            "correlation_id": self.event.correlation_id,
            "payload_hash": f"\\x{self.event.payload_hash.hex()}",
            "accepted": self.event.accepted,
            "replayed": self.replayed,
        }


class LeadCreationRepository:
    """Writes new leads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, creations: Sequence[Creation]) -> list[WriteResult]:
        """Apply each creation once, all in one transaction; returns the results in their order."""
        return await retry_unique_violation(lambda: self._create(creations))

    async def _create(self, creations: Sequence[Creation]) -> list[WriteResult]:
        # An event may be in a batch twice, after a publication whose answer was lost.
        unique = {creation.event.id: creation for creation in creations}
        async with self._database.transaction() as connection:
            replayed = [one.event for one in unique.values() if one.replayed]
            results = await answer_replayed(connection, replayed) if replayed else {}
            new = [one for one in unique.values() if one.event.id not in results]
            results |= await create_leads(connection, new)
        return [results[creation.event.id] for creation in creations]


async def create_leads(
    connection: Connection, creations: Sequence[Creation]
) -> dict[UUID, WriteResult]:
    """Apply different events' creations as a part of a transaction; returns results by event id."""
    if not creations:
        return {}
    # Equal keys in one order in every process: batches may wait, but never in a circle.
    offered = sorted(creations, key=lambda creation: creation.lead.email_key)
    found = await connection.fetch(
        _CREATE,
        _json([one.row() for one in offered]),
        [one.event.data for one in offered],
        _json([one.lead.row() for one in offered]),
        [one.lead.fields.external_id for one in offered],
        any(one.is_shown for one in offered),
    )
    rows = {row["event_id"]: row for row in found}
    results = {event_id: _created(row) for event_id, row in rows.items() if row["id"] is not None}
    await _check_tombstones(connection, [one for one in offered if one.event.id in results], rows)
    left = [one for one in offered if one.event.id not in results]
    refused = [one for one in left if one.event.id in rows]
    results |= await _mark_refused(connection, refused, rows)
    known = [one for one in left if one.event.id not in results]
    return results | await _find_earlier(connection, known)


def _json(rows: Sequence[Mapping[str, Any]]) -> str:
    return orjson.dumps(rows).decode()


# Not made: another lead has the key, or the lead was deleted.


async def _check_tombstones(
    connection: Connection, made: Sequence[Creation], rows: Mapping[UUID, asyncpg.Record]
) -> None:
    """Unblock whom a person made a lead of; see that a source has missed no new tombstone."""
    anew = [one.lead.id for one in made if rows[one.event.id]["was_deleted"] and not one.replayed]
    if anew:
        await unblock(connection, anew)
    offers = [one.lead.id for one in made if one.lead.source != LeadSource.MANUAL]
    if offers and await are_overtaken(connection, offers):
        raise TransientError("A lead was deleted meanwhile; the batch is worth another try")


async def _mark_refused(
    connection: Connection, refused: Sequence[Creation], rows: Mapping[UUID, asyncpg.Record]
) -> dict[UUID, WriteResult]:
    """Find what stood in the way of each refused lead, and note it with its event."""
    if not refused:
        return {}
    keys = [(one.event.id, one.lead.fields.external_id, one.lead.email_key) for one in refused]
    conflicts = await find_conflicts(connection, keys)
    results = {
        one.event.id: _refusal(conflicts.get(one.event.id), barred=rows[one.event.id]["barred"])
        for one in refused
        # A lead in its own way was created before its event's row was lost.
        if one.event.id not in conflicts or conflicts[one.event.id]["id"] != one.lead.id
    }
    marked = [(event_id, one.outcome.status, one.detail) for event_id, one in results.items()]
    if marked:
        await connection.execute(_MARK, *columns(marked))
    return results


def _refusal(conflict: asyncpg.Record | None, *, barred: str | None) -> WriteResult:
    if barred == "id":
        return WriteResult(Outcome(OutcomeStatus.NOT_FOUND, repeated=True), detail="{}")
    if conflict is not None:
        return WriteResult.refusal(
            OutcomeStatus.DUPLICATE, field=conflict["field"], leadId=str(conflict["id"])
        )
    if barred is not None:
        return WriteResult.refusal(OutcomeStatus.ERASED, field=barred)
    raise TransientError("A lead that stood in the way is gone; the batch is worth another try")


# Applied before: answered as then.


async def _find_earlier(
    connection: Connection, known: Sequence[Creation]
) -> dict[UUID, WriteResult]:
    if not known:
        return {}
    hashes = {one.event.id: one.event.payload_hash for one in known}
    rows = await connection.fetch(_EARLIER, list(hashes))
    return {
        row["event_id"]: _repeated(row, same=row["payload_hash"] == hashes[row["event_id"]])
        for row in rows
    }


def _repeated(row: asyncpg.Record, *, same: bool) -> WriteResult:
    if not same:
        return WriteResult(Outcome(OutcomeStatus.KEY_REUSED, repeated=True))
    if row["outcome"] != OutcomeStatus.CREATED:
        body = (row["detail"] or "{}").encode()
        return WriteResult(Outcome(OutcomeStatus(row["outcome"]), body, repeated=True))
    if row["id"] is None:
        return WriteResult(Outcome(OutcomeStatus.NOT_FOUND, repeated=True))
    return _created(row, repeated=True)


def _created(row: asyncpg.Record, *, repeated: bool = False) -> WriteResult:
    lead = document(row)
    # Nobody may be answered with a lead that has no JSON: clocks can be set back.
    outcome = Outcome(OutcomeStatus.CREATED, lead.json, answered=bool(lead.json), repeated=repeated)
    return WriteResult(outcome, lead, change="created")
