"""What is in PostgreSQL in the end, read without the product's help."""

from collections.abc import Sequence
from typing import Any

import psycopg


class Tables:
    """Reads tables over a connection of its own."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def rows(self, query: str, *parameters: Any) -> Sequence[tuple[Any, ...]]:
        """Return what a query of ours gives."""
        async with (
            await psycopg.AsyncConnection.connect(self._dsn, autocommit=True) as connection,
            await connection.execute(query.encode(), parameters) as cursor,
        ):
            return await cursor.fetchall()

    async def value(self, query: str, *parameters: Any) -> Any:
        """Return the one value that a query gives."""
        return (await self.rows(query, *parameters))[0][0]

    async def emails(self) -> list[str]:
        """Return every lead's e-mail address, as often as it is there."""
        return [row[0] for row in await self.rows("SELECT email FROM leads.lead")]

    async def dead_letters(self) -> list[str]:
        """Return the reason of each dead letter."""
        return [row[0] for row in await self.rows("SELECT reason FROM leads.dead_letter")]

    async def fingerprint(self) -> str:
        """Return a hash of every column of every lead, event and summary."""
        return str(await self.value(_FINGERPRINT))


_FINGERPRINT = """
    SELECT md5(string_agg(line, E'\\n' ORDER BY line)) FROM (
        SELECT lead::text FROM leads.lead
        UNION ALL SELECT event::text FROM leads.event
        UNION ALL SELECT summary::text FROM leads.summary
    ) AS every (line)
"""
