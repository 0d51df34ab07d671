"""The one JSON form of a lead: built by PostgreSQL, passed on as bytes by everything else."""

import asyncio
import time
from collections.abc import Collection
from dataclasses import field
from datetime import timedelta
from uuid import UUID

import asyncpg

from shared.domain.errors import UnavailableError
from shared.domain.values import value
from shared.storage.pool import Database

# Shorter than what asks: who waits for longer does not learn why.
READABLE_WITHIN = timedelta(milliseconds=900)

_BY_ID = """
    SELECT id, external_id, version, leads.partition_key(lead) AS partition_key,
           leads.lead_json(lead) AS json
    FROM leads.lead WHERE id = $1
"""
_BY_EXTERNAL_ID = """
    SELECT id, external_id, version, leads.partition_key(lead) AS partition_key,
           leads.lead_json(lead) AS json
    FROM leads.lead WHERE external_id = $1
"""
_MOVED = """
    SELECT external_id, partition_key FROM leads.lead
    WHERE external_id = ANY($1::uuid[]) AND partition_key IS NOT NULL
"""


@value(kw_only=True)
class LeadDocument:
    """A lead as clients see it. `json` is UTF-8 bytes; `version` is its ETag.

    Events with its `partition_key` take effect in the order in which they were accepted: its
    externalId when it was made, or else its id. `read_at` is when, by this process's monotonic
    clock, PostgreSQL gave it.
    """

    id: UUID
    external_id: UUID | None
    version: int
    partition_key: UUID
    json: bytes
    read_at: float = field(default_factory=time.monotonic, compare=False)


class LeadRepository:
    """Reads leads one by one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def check_readable(self) -> None:
        """Raise `TransientError` unless leads can be read: the table may be locked, or missing."""
        try:
            async with (
                asyncio.timeout(READABLE_WITHIN.total_seconds()),
                self._database.connection() as connection,
            ):
                # Else the server would go on waiting for it when nobody does any more. Statements
                # that go out together are a transaction.
                await connection.execute(
                    "SET LOCAL lock_timeout = '500ms'; SELECT 1 FROM leads.lead LIMIT 1"
                )
        except TimeoutError as error:
            raise UnavailableError(self._database.silence, dependency="postgres") from error

    async def get(self, lead_id: UUID) -> LeadDocument | None:
        """Return the lead with this id."""
        return await self._one(_BY_ID, lead_id)

    async def get_by_external_id(self, external_id: UUID) -> LeadDocument | None:
        """Return the lead with this externalId."""
        return await self._one(_BY_EXTERNAL_ID, external_id)

    async def moved_keys(self, external_ids: Collection[UUID]) -> dict[UUID, str]:
        """Return the partition keys of the leads for which it is not their externalId."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_MOVED, list(external_ids))
        return {row["external_id"]: str(row["partition_key"]) for row in rows}

    async def _one(self, query: str, key: UUID) -> LeadDocument | None:
        async with self._database.connection() as connection:
            row = await connection.fetchrow(query, key)
        return None if row is None else document(row)


def document(row: asyncpg.Record) -> LeadDocument:
    """Return the lead in a row: id, external_id, version, partition_key, and its JSON as json.

    It has none where that was not asked for.
    """
    return LeadDocument(
        id=row["id"],
        external_id=row["external_id"],
        version=row["version"],
        partition_key=row["partition_key"],
        json=(row["json"] or "").encode(),
    )


def deleted_lead(lead_id: UUID, version: int) -> LeadDocument:
    """Return a lead in its last version, when nothing else is known of it."""
    return LeadDocument(
        id=lead_id, external_id=None, version=version, partition_key=lead_id, json=b""
    )
