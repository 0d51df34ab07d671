"""Leads that are lost or behind their archive, written as all their archived events made them.

All of a lead's events are folded in memory and only the result is written: what leads were in
between cannot meet what other leads are now.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import asyncpg
import orjson

from services.syncer.storage.archived.fold import FoldedLead, PastEvent, Row, fold
from services.syncer.storage.conflicts import find_conflicts
from services.syncer.storage.lead_row import with_columns
from shared.events.outcome import OutcomeStatus
from shared.storage.erasure import delete_leads, erase_records
from shared.storage.inbox import WriteResult
from shared.storage.pool import Connection

# A lead that is not there cannot be locked. So one process at a time makes it again: another one
# waits here, and then sees also what the first has recorded since.
_WAIT = """
    SELECT pg_advisory_xact_lock(hashtextextended(id::text, 0))
    FROM (SELECT unnest($1::uuid[]) AS id ORDER BY 1) AS ordered
"""
_LOCK = "SELECT id, version FROM leads.lead WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE"
_PAST = """
    SELECT subject, type, data::text, outcome, detail::text, changed,
           coalesce(applied_at, time) AS applied_at
    FROM leads.event
    WHERE subject = ANY($1::text[]) AND outcome IN ('created', 'updated', 'summarised', 'deleted')
    ORDER BY position
"""
_DELETED = "SELECT lead_id, deleted_at FROM leads.tombstone WHERE lead_id = ANY($1::uuid[])"
_INSERT = with_columns("""
    INSERT INTO leads.lead (
        id, :columns, email_key, status, edited_fields, source, created_by, partition_key,
        summary, next_action, summary_stale, created_at, updated_at, version
    )
    SELECT id, :columns, email_key, status, edited_fields, source, created_by, partition_key,
           summary, next_action, summary_stale, created_at, updated_at, version
    FROM json_populate_recordset(NULL::leads.lead, $1::json)
    ORDER BY email_key
    ON CONFLICT DO NOTHING
""")
# They may have got each other's keys.
_FREE_KEYS = """
    UPDATE leads.lead SET external_id = NULL, email_key = id::text WHERE id = ANY($1::uuid[])
"""
_UPDATE = with_columns("""
    UPDATE leads.lead SET (
        :columns, email_key, status, edited_fields, source, created_by, partition_key,
        summary, next_action, summary_stale, created_at, updated_at, version
    ) = ROW(
        :after.columns, after.email_key, after.status, after.edited_fields, after.source,
        after.created_by, after.partition_key, after.summary, after.next_action,
        after.summary_stale, after.created_at, after.updated_at, after.version
    )
    FROM json_populate_recordset(NULL::leads.lead, $1::json) AS after
    WHERE lead.id = after.id
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What became of a lead that was lost or behind.

    `change` is as in lead-changed. `refusal` says why the lead is not what its archive says,
    whose last version is `version`.
    """

    version: int
    change: str | None = None
    refusal: WriteResult | None = None


async def rebuild(connection: Connection, lead_ids: Collection[UUID]) -> dict[UUID, Rebuilt]:
    """Make leads what their archived events made of them, as a part of a transaction.

    Raises the driver's error when another transaction takes a key meanwhile, and
    `PermanentError` for archived data that are no event's.
    """
    leads = _Archived(connection)
    await leads.read(lead_ids)
    await leads.settle_conflicts()
    await leads.write()
    return leads.results()


_INCOMPLETE = WriteResult.refusal(OutcomeStatus.FAILED, reason="archive-incomplete")


@dataclass(slots=True)
class _Archived:
    """Leads as their archive says, and the versions of those that are there."""

    connection: Connection
    folded: dict[UUID, FoldedLead] = field(default_factory=dict[UUID, FoldedLead])
    present: dict[UUID, int] = field(default_factory=dict[UUID, int])
    refused: dict[UUID, WriteResult] = field(default_factory=dict[UUID, WriteResult])

    async def read(self, lead_ids: Collection[UUID]) -> None:
        """Lock leads and fold what their archives hold."""
        ids = list(lead_ids)
        await self.connection.execute(_WAIT, ids)
        for row in await self.connection.fetch(_LOCK, ids):
            self.present[row["id"]] = row["version"]
        histories: defaultdict[UUID, list[PastEvent]] = defaultdict(list)
        for row in await self.connection.fetch(_PAST, list(map(str, ids))):
            histories[UUID(row["subject"])].append(PastEvent.of(row))
        tombstones = await self.connection.fetch(_DELETED, ids)
        deleted = {row["lead_id"]: row["deleted_at"] for row in tombstones}
        for lead_id in ids:
            lead = fold(histories[lead_id])
            if lead_id in deleted and lead_id not in self.present:
                lead = FoldedLead(version=lead.version, deleted_at=deleted[lead_id])
            self.folded[lead_id] = lead
            if lead.row is None and lead.deleted_at is None and lead.version:
                self.refused[lead_id] = _INCOMPLETE

    def due(self) -> dict[UUID, Row]:
        """Return the rows of those that are to be written."""
        return {
            lead_id: lead.row
            for lead_id, lead in self.folded.items()
            if lead.row is not None and self._is_behind(lead_id) and lead_id not in self.refused
        }

    def _is_behind(self, lead_id: UUID) -> bool:
        return self.present.get(lead_id, 0) < self.folded[lead_id].version

    async def settle_conflicts(self) -> None:
        """Find who has the keys that leads are to get.

        A lead that is behind itself may no longer want them. Against others nothing is done.
        """
        while conflicts := await self._find_conflicts():
            unread = {row["id"] for row in conflicts.values()} - self.folded.keys()
            if unread:
                await self.read(unread)
                continue
            for lead_id, row in conflicts.items():
                self.refused[lead_id] = WriteResult.refusal(
                    OutcomeStatus.DUPLICATE, field=row["field"], leadId=str(row["id"])
                )

    async def _find_conflicts(self) -> Mapping[UUID, asyncpg.Record]:
        due = self.due()
        keys = [
            (lead_id, row["external_id"], str(row["email_key"])) for lead_id, row in due.items()
        ]
        return await find_conflicts(self.connection, keys, but=[*due, *self._dead()])

    def _dead(self) -> dict[UUID, datetime]:
        """Return the leads that are there and were deleted, and when that was."""
        return {
            lead_id: lead.deleted_at
            for lead_id, lead in self.folded.items()
            if lead.deleted_at is not None and lead_id in self.present and self._is_behind(lead_id)
        }

    async def write(self) -> None:
        """Write the final rows."""
        if dead := self._dead():
            await delete_leads(self.connection, dead)
            await erase_records(self.connection, dead)
        due = self.due()
        behind = [lead_id for lead_id in due if lead_id in self.present]
        if behind:
            await self.connection.execute(_FREE_KEYS, behind)
            await self.connection.execute(_UPDATE, _json([due[key] for key in behind]))
        lost = [row for lead_id, row in due.items() if lead_id not in self.present]
        if lost:
            status = await self.connection.execute(_INSERT, _json(lost))
            if int(status.rpartition(" ")[2]) < len(lost):
                raise asyncpg.UniqueViolationError("Another lead has just got the same key")

    def results(self) -> dict[UUID, Rebuilt]:
        """Return what became of each lead."""
        due, dead = self.due(), self._dead()
        changes = {key: "updated" if key in self.present else "created" for key in due}
        changes |= dict.fromkeys(dead, "deleted")
        return {
            lead_id: Rebuilt(
                version=lead.version,
                change=changes.get(lead_id),
                refusal=self.refused.get(lead_id),
            )
            for lead_id, lead in self.folded.items()
        }


def _json(rows: Collection[Row]) -> str:
    return orjson.dumps([dict(row) for row in rows]).decode()
