"""Leads in PostgreSQL, read one by one."""

from uuid import UUID

import asyncpg

from shared.storage.lead_document import DOCUMENT_COLUMNS, LeadDocument
from shared.storage.pool import Database

_BY_ID = f"SELECT {DOCUMENT_COLUMNS} FROM leads.lead WHERE id = $1"  # noqa: S608 (constants)
_BY_EXTERNAL_ID = f"SELECT {DOCUMENT_COLUMNS} FROM leads.lead WHERE external_id = $1"  # noqa: S608 (constants)


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
