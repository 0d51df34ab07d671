"""The one JSON form of a lead: built by PostgreSQL, passed on as bytes by everything else."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from shared.storage.pool import Database

# Selected from a row source named `lead`. The order is the order of the keys on the wire.
LEAD_JSON = """
    row_to_json((SELECT document FROM (SELECT
        lead.id,
        lead.external_id AS "externalId",
        lead.first_name AS "firstName",
        lead.last_name AS "lastName",
        lead.email,
        lead.phone,
        lead.cell,
        lead.dob,
        lead.city,
        lead.state,
        lead.country,
        lead.picture,
        lead.summary,
        lead.next_action AS "nextAction",
        lead.summary_stale AS "summaryStale",
        lead.status,
        lead.source,
        lead.created_by AS "createdBy",
        to_char(lead.created_at, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS "createdAt",
        to_char(lead.updated_at, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS "updatedAt",
        lead.version
    ) AS document))::text
"""

DOCUMENT_COLUMNS = f"""
    lead.id, lead.external_id, lead.version, lead.created_at, {LEAD_JSON} AS json
"""

# Leads in PostgreSQL, read one by one.

_BY_ID = f"SELECT {DOCUMENT_COLUMNS} FROM leads.lead WHERE id = $1"  # noqa: S608 (constants)
_BY_EXTERNAL_ID = f"SELECT {DOCUMENT_COLUMNS} FROM leads.lead WHERE external_id = $1"  # noqa: S608 (constants)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadDocument:
    """A lead as clients see it. `json` is UTF-8 bytes; `version` is its ETag."""

    id: UUID
    external_id: UUID | None
    version: int
    created_at: datetime
    json: bytes


class LeadRepository:
    """Reads leads. Every method raises `UnavailableError` when PostgreSQL is down."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, lead_id: UUID) -> LeadDocument | None:
        """Return the lead with this id."""
        return await self._one(_BY_ID, lead_id)

    async def get_by_external_id(self, external_id: UUID) -> LeadDocument | None:
        """Return the lead with this externalId."""
        return await self._one(_BY_EXTERNAL_ID, external_id)

    async def _one(self, query: str, key: UUID) -> LeadDocument | None:
        async with self._database.connection() as connection:
            row = await connection.fetchrow(query, key)
        return None if row is None else document(row)


def document(row: asyncpg.Record) -> LeadDocument:
    """Make a document of a row of `DOCUMENT_COLUMNS`."""
    return LeadDocument(
        id=row["id"],
        external_id=row["external_id"],
        version=row["version"],
        created_at=row["created_at"],
        json=row["json"].encode(),
    )
