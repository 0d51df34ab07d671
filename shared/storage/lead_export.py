"""All leads, oldest first, without holding them in memory."""

from collections.abc import AsyncGenerator
from datetime import timedelta

from shared.storage.lead_document import LEAD_JSON
from shared.storage.pool import Database

# Rows fetched from the server at a time, and how long that may take.
PREFETCH = 1_000
FETCH_TIMEOUT = timedelta(minutes=2)

_ALL = f"SELECT {LEAD_JSON} AS json FROM leads.lead ORDER BY created_at, id"  # noqa: S608 (constants)
_NUMBER = "SELECT count(*) FROM leads.lead"


class LeadExport:
    """Raises `UnavailableError` when PostgreSQL is down."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def number(self) -> int:
        """Return how many leads there are."""
        async with self._database.connection() as connection:
            seconds = FETCH_TIMEOUT.total_seconds()
            return int(await connection.fetchval(_NUMBER, timeout=seconds))

    async def documents(self) -> AsyncGenerator[bytes]:
        """Yield each lead's JSON, from one snapshot."""
        async with self._database.transaction() as connection:
            cursor = connection.cursor(
                _ALL, prefetch=PREFETCH, timeout=FETCH_TIMEOUT.total_seconds()
            )
            async for row in cursor:
                yield row["json"].encode()
