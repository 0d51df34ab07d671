"""Many leads, oldest first, without holding them in memory."""

import contextlib
from collections.abc import AsyncGenerator
from datetime import timedelta

from shared.storage.lead_document import LEAD_JSON
from shared.storage.lead_filters import CONDITION, EVERYTHING, FilteredLeads, LeadFilters
from shared.storage.pool import Database

# Rows fetched from the server at a time, and how long that may take.
PREFETCH = 1_000
FETCH_TIMEOUT = timedelta(minutes=2)

_SELECTED = f"""
    SELECT {LEAD_JSON} AS json FROM leads.lead WHERE {CONDITION} ORDER BY created_at, id
"""  # noqa: S608 (constants)
_NUMBER = "SELECT count(*) FROM leads.lead"


class LeadExport:
    """Raises `UnavailableError` when PostgreSQL is down."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._leads = FilteredLeads(database)

    async def number(self) -> int:
        """Return how many leads there are."""
        async with self._database.connection() as connection:
            seconds = FETCH_TIMEOUT.total_seconds()
            return int(await connection.fetchval(_NUMBER, timeout=seconds))

    async def batches(
        self, filters: LeadFilters = EVERYTHING, *, size: int = PREFETCH
    ) -> AsyncGenerator[list[bytes]]:
        """Yield the leads' JSON, up to `size` at a time, from one snapshot.

        The query ends with the generator: close it when there is nobody to read on.
        """
        seconds = FETCH_TIMEOUT.total_seconds()
        async with self._leads.filtering(filters) as (connection, parameters):
            cursor = await connection.cursor(_SELECTED, *parameters, timeout=seconds)
            while rows := await cursor.fetch(size, timeout=seconds):
                yield [row["json"].encode() for row in rows]

    async def documents(self) -> AsyncGenerator[bytes]:
        """Yield each lead's JSON, from one snapshot."""
        async with contextlib.aclosing(self.batches()) as batches:
            async for batch in batches:
                for document in batch:
                    yield document
