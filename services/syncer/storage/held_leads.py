"""Leads locked for the length of a transaction, to be changed one by one."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from uuid import UUID

import asyncpg
import orjson

from shared.domain.lead import email_key
from shared.storage.lead_document import DOCUMENT_COLUMNS, LeadDocument, document
from shared.storage.pool import Connection
from shared.storage.summary_input import summary_input

EDITABLE = (
    "external_id",
    "first_name",
    "last_name",
    "email",
    "phone",
    "cell",
    "dob",
    "city",
    "state",
    "country",
    "picture",
    "status",
)
_COLUMNS = (*EDITABLE, "email_key")

# In the order of their ids: batches may wait for each other, but never in a circle.
_LOCK = f"""
    SELECT edited_fields, {", ".join(EDITABLE)}, {DOCUMENT_COLUMNS}
    FROM leads.lead WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE
"""  # noqa: S608 (constants)
# An externalId may be neither another lead's externalId nor its id.
_TAKEN = """
    SELECT CASE WHEN $2 IN (external_id, id) THEN 'externalId' ELSE 'email' END AS field, id
    FROM leads.lead
    WHERE id <> $1 AND (external_id = $2::uuid OR id = $2::uuid OR email_key = $3)
    ORDER BY $2 IN (external_id, id) DESC NULLS LAST LIMIT 1
"""


def _input_hash(text: str) -> str:
    # As in `SummarySource.salt`.
    salt = r"concat_ws(E'\n', provider, model, prompt_version, '')"
    return f"sha256(convert_to({salt} || {text}, 'UTF8'))"


# A summary is stale unless it was written from what the lead says now.
_CHANGE = f"""
    UPDATE leads.lead SET
        ({", ".join(_COLUMNS)}) = ROW({", ".join(f"after.{name}" for name in _COLUMNS)}),
        edited_fields = $3, version = $4, updated_at = $5,
        summary_stale = lead.summary IS NOT NULL AND NOT EXISTS (
            SELECT FROM leads.summary AS written
            WHERE written.lead_id = lead.id AND written.state = 'succeeded'
              AND written.summary = lead.summary AND written.next_action = lead.next_action
              AND written.input_hash IN (
                  {_input_hash("seen.plain")}, {_input_hash("seen.personal")}
              )
        )
    FROM leads.lead AS before
    CROSS JOIN LATERAL jsonb_populate_record(before, $2::jsonb) AS after
    CROSS JOIN LATERAL (
        SELECT {summary_input(personal="false")} AS plain,
               {summary_input(personal="true")} AS personal
        FROM (SELECT after.*) AS lead
    ) AS seen
    WHERE lead.id = $1 AND before.id = lead.id
    RETURNING lead.edited_fields, {", ".join(f"lead.{name}" for name in EDITABLE)},
              {DOCUMENT_COLUMNS}
"""  # noqa: S608 (constants)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """New values of a lead's columns. A person's edits are kept from everybody else's."""

    values: Mapping[str, Any]
    changed_at: datetime
    by_person: bool


@dataclass(frozen=True, slots=True)
class Changed:
    """The lead as it is now; `by_this` is False when it had been like that before."""

    document: LeadDocument
    by_this: bool


@dataclass(frozen=True, slots=True)
class Conflict:
    """Another lead has the key that this one was to get."""

    field: str
    lead_id: UUID

    @property
    def detail(self) -> str:
        """Return the body of the outcome `duplicate`."""
        return orjson.dumps({"field": self.field, "leadId": str(self.lead_id)}).decode()


class HeldLeads:
    """Nobody else changes these leads until the transaction ends."""

    def __init__(self, connection: Connection, rows: Mapping[UUID, asyncpg.Record]) -> None:
        self._connection = connection
        self._rows = dict(rows)

    @classmethod
    async def lock(cls, connection: Connection, lead_ids: Collection[UUID]) -> Self:
        """Lock those of the leads that exist."""
        rows = await connection.fetch(_LOCK, list(lead_ids)) if lead_ids else []
        return cls(connection, {row["id"]: row for row in rows})

    def document(self, lead_id: UUID) -> LeadDocument | None:
        """Return a held lead as it is now."""
        row = self._rows.get(lead_id)
        return None if row is None else document(row)

    async def change(
        self, lead_id: UUID, change: Change, *, version: int | None = None
    ) -> Changed | Conflict:
        """Change a held lead, to its next version if to no other one.

        Raises the driver's error when another transaction takes a key meanwhile.
        """
        row = self._rows[lead_id]
        edited = set(row["edited_fields"])
        new = {
            name: value
            for name, value in change.values.items()
            if row[name] != value and (change.by_person or name not in edited)
        }
        if not new:
            return Changed(document(row), by_this=False)
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
            row["version"] + 1 if version is None else version,
            change.changed_at,
        )
        self._rows[lead_id] = written
        return Changed(document(written), by_this=True)

    async def _conflict(self, lead_id: UUID, new: Mapping[str, Any]) -> Conflict | None:
        keys = new.get("external_id"), new.get("email_key")
        if keys == (None, None):
            return None
        row = await self._connection.fetchrow(_TAKEN, lead_id, *keys)
        return None if row is None else Conflict(row["field"], row["id"])
