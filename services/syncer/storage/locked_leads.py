"""Leads locked for the length of a transaction, to be changed one by one."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self
from uuid import UUID

import asyncpg
import orjson

from services.syncer.storage.lead_row import with_columns
from shared.domain.lead import email_key
from shared.events.outcome import Outcome, OutcomeStatus
from shared.sql import load_sql
from shared.storage.inbox import WriteResult
from shared.storage.lead_document import LeadDocument, document
from shared.storage.pool import Connection

# In the order of their ids: batches may wait for each other, but never in a circle.
_LOCK = with_columns("""
    SELECT id, version, edited_fields, :columns, status, leads.partition_key(lead) AS partition_key,
           leads.lead_json(lead) AS json
    FROM leads.lead WHERE id = ANY($1::uuid[]) OR external_id = ANY($2::uuid[])
    ORDER BY id FOR UPDATE
""")
# An externalId may be neither another lead's externalId nor its id.
_TAKEN = """
    SELECT CASE WHEN $2 IN (external_id, id) THEN 'externalId' ELSE 'email' END AS field, id
    FROM leads.lead
    WHERE id <> $1 AND (external_id = $2::uuid OR id = $2::uuid OR email_key = $3)
    ORDER BY $2 IN (external_id, id) DESC NULLS LAST LIMIT 1
"""
_CHANGE = with_columns(load_sql(__file__, "change.sql"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """New values of a lead's columns. A person's edits are kept from everybody else's."""

    values: Mapping[str, Any]
    by_person: bool


class LockedLeads:
    """Leads that no other process changes until the transaction ends."""

    def __init__(self, connection: Connection, rows: Mapping[UUID, asyncpg.Record]) -> None:
        self._connection = connection
        self._rows = dict(rows)

    @classmethod
    async def lock(
        cls,
        connection: Connection,
        lead_ids: Collection[UUID],
        *,
        external_ids: Collection[UUID] = (),
    ) -> Self:
        """Lock the leads that exist among those with these ids and externalIds."""
        rows: Sequence[asyncpg.Record] = ()
        if lead_ids or external_ids:
            rows = await connection.fetch(_LOCK, list(lead_ids), list(external_ids))
        return cls(connection, {row["id"]: row for row in rows})

    def document(self, lead_id: UUID) -> LeadDocument | None:
        """Return a locked lead as it is now."""
        row = self._rows.get(lead_id)
        return None if row is None else document(row)

    def with_external_id(self, external_id: UUID) -> LeadDocument | None:
        """Return the locked lead that has an externalId, as it is now."""
        rows = (row for row in self._rows.values() if row["external_id"] == external_id)
        row = next(rows, None)
        return None if row is None else document(row)

    async def change(
        self, lead_id: UUID, change: Change, *, again: WriteResult | None = None
    ) -> WriteResult:
        """Change a locked lead, to its next version and now, or as it was done before (`again`).

        Its end is `duplicate` when another lead has a key that this one was to get. Raises the
        driver's error when another transaction takes a key meanwhile.
        """
        row = self._rows[lead_id]
        edited = set(row["edited_fields"])
        new = {
            name: value
            for name, value in change.values.items()
            if row[name] != value and (change.by_person or name not in edited)
        }
        if not new:
            return _updated(row)
        if change.by_person:
            edited.update(new)
        if "email" in new:
            new["email_key"] = email_key(new["email"])
        conflict = await self._conflict(lead_id, new)
        if conflict is not None:
            return conflict
        [written] = await self._connection.fetch(
            _CHANGE,
            lead_id,
            orjson.dumps(new).decode(),
            sorted(edited),
            row["version"] + 1 if again is None else again.version,
            None if again is None else again.applied_at,
        )
        self._rows[lead_id] = written
        return replace(
            _updated(written, version=written["version"]),
            change="updated",
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


def _updated(row: asyncpg.Record, **detail: Any) -> WriteResult:
    lead = document(row)
    outcome = Outcome(OutcomeStatus.UPDATED, lead.json)
    return WriteResult(outcome, lead, detail=orjson.dumps(detail).decode())
