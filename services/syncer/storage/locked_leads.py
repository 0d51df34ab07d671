"""Leads locked for the length of a transaction, to be changed one by one."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Self
from uuid import UUID

import asyncpg
import orjson

from services.syncer.storage.archived.rebuilding import Rebuilt, rebuild
from services.syncer.storage.lead_row import Change, with_columns
from shared.domain.lead import email_key
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.event_archive import IS_BEHIND
from shared.storage.inbox import WriteResult
from shared.storage.lead_document import LeadDocument, document
from shared.storage.pool import Connection
from shared.storage.prepared_statements import load_sql

# In the order of their ids: batches may wait for each other, but never in a circle.
_LOCK = with_columns(
    """
    SELECT id, version, edited_fields, :columns, status, leads.partition_key(lead) AS partition_key,
           leads.lead_json(lead) AS json, :is_behind AS is_behind
    FROM leads.lead WHERE id = ANY($1::uuid[]) OR external_id = ANY($2::uuid[])
    ORDER BY id FOR UPDATE
""".replace(":is_behind", IS_BEHIND)
)
# An externalId may be neither another lead's externalId nor its id.
_TAKEN = """
    SELECT CASE WHEN $2 IN (external_id, id) THEN 'externalId' ELSE 'email' END AS field, id
    FROM leads.lead
    WHERE id <> $1 AND (external_id = $2::uuid OR id = $2::uuid OR email_key = $3)
    ORDER BY $2 IN (external_id, id) DESC NULLS LAST LIMIT 1
"""
_CHANGE = with_columns(load_sql(__file__, "change.sql"))


class LockedLeads:
    """Leads that no other process changes until the transaction ends.

    Those that were lost, or behind their archive, are there again as their archive says.
    """

    def __init__(
        self,
        connection: Connection,
        rows: Mapping[UUID, asyncpg.Record],
        rebuilt: Mapping[UUID, Rebuilt],
    ) -> None:
        self._connection = connection
        self._rows = dict(rows)
        self._rebuilt = rebuilt
        self._untold = dict(rebuilt)

    @classmethod
    async def lock(
        cls,
        connection: Connection,
        lead_ids: Collection[UUID],
        *,
        external_ids: Collection[UUID] = (),
    ) -> Self:
        """Lock the leads that exist among those with these ids and externalIds."""
        if not lead_ids and not external_ids:
            return cls(connection, {}, {})
        rows = await _lock(connection, lead_ids, external_ids)
        behind = [lead_id for lead_id, row in rows.items() if row["is_behind"]]
        suspects = [*behind, *(lead_id for lead_id in lead_ids if lead_id not in rows)]
        rebuilt = await rebuild(connection, suspects) if suspects else {}
        if any(one.change is not None for one in rebuilt.values()):
            rows = await _lock(connection, lead_ids, external_ids)
        return cls(connection, rows, rebuilt)

    def document(self, lead_id: UUID) -> LeadDocument | None:
        """Return a locked lead as it is now."""
        row = self._rows.get(lead_id)
        return None if row is None else document(row)

    def with_external_id(self, external_id: UUID) -> LeadDocument | None:
        """Return the locked lead that has an externalId, as it is now."""
        rows = (row for row in self._rows.values() if row["external_id"] == external_id)
        row = next(rows, None)
        return None if row is None else document(row)

    def take_rebuilt(self, lead_id: UUID) -> Rebuilt | None:
        """Return what became of a lead that was lost or behind, and its change only once."""
        rebuilt = self._untold.get(lead_id)
        if rebuilt is not None:
            self._untold[lead_id] = replace(rebuilt, change=None)
        return rebuilt

    def next_version(self, lead_id: UUID) -> int:
        """Return a version that no archived event has made."""
        rebuilt = self._rebuilt.get(lead_id)
        archived = 0 if rebuilt is None else rebuilt.version
        return max(archived, int(self._rows[lead_id]["version"])) + 1

    async def change(self, lead_id: UUID, change: Change) -> WriteResult:
        """Change a locked lead, to its next version.

        Its end is `duplicate` when another lead has a key that this one was to get. Raises the
        driver's error when another transaction takes a key meanwhile.
        """
        row = dict(self._rows[lead_id])
        new = change.new_values(row)
        if not new:
            return _updated(self._rows[lead_id])
        changed = tuple(sorted(new))
        if "email" in new:
            new["email_key"] = email_key(new["email"])
        conflict = await self._conflict(lead_id, new)
        if conflict is not None:
            return conflict
        [written] = await self._connection.fetch(
            _CHANGE,
            lead_id,
            orjson.dumps(new).decode(),
            change.edited_fields(row, changed),
            self.next_version(lead_id),
        )
        self._rows[lead_id] = written
        stale = {"summaryStale": True} if written["summary_stale"] else {}
        return replace(
            _updated(written, version=written["version"], **stale),
            change="updated",
            changed=changed,
            applied_at=written["updated_at"],
        )

    async def _conflict(self, lead_id: UUID, new: Mapping[str, Any]) -> WriteResult | None:
        keys = new.get("external_id"), new.get("email_key")
        if keys == (None, None):
            return None
        row = await self._connection.fetchrow(_TAKEN, lead_id, *keys)
        if row is None:
            return None
        return WriteResult.refusal(
            OutcomeStatus.DUPLICATE, field=row["field"], leadId=str(row["id"])
        )


async def _lock(
    connection: Connection, lead_ids: Collection[UUID], external_ids: Collection[UUID]
) -> dict[UUID, asyncpg.Record]:
    rows = await connection.fetch(_LOCK, list(lead_ids), list(external_ids))
    return {row["id"]: row for row in rows}


def _updated(row: asyncpg.Record, **detail: Any) -> WriteResult:
    lead = document(row)
    outcome = Outcome(OutcomeStatus.UPDATED, lead.json)
    return WriteResult(outcome, lead, detail=orjson.dumps(detail).decode())
