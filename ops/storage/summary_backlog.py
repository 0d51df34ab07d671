"""Leads that have no summary, for requesting theirs."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.storage.pool import Database

_COUNT = "SELECT count(*) FROM leads.leads_without_summary($1)"
_PAGE = "SELECT id FROM leads.leads_without_summary($1) WHERE id > $2 ORDER BY id LIMIT $3"
_TOKENS = """
    SELECT avg(tokens_in + tokens_out)::float8 FROM (
        SELECT tokens_in, tokens_out FROM leads.summary
        WHERE state = 'succeeded' AND tokens_in > 0 ORDER BY requested_at DESC LIMIT 1000
    ) AS latest
"""

FIRST = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many leads lack a summary, and the tokens that one took on average, if any did."""

    leads: int
    tokens_each: float | None

    @property
    def tokens(self) -> int | None:
        """About how many tokens all of them will take; None when no summary took any yet."""
        return None if self.tokens_each is None else round(self.leads * self.tokens_each)


class SummaryBacklog:
    """The leads that had no summary at the moment `as_of`."""

    def __init__(self, database: Database, *, as_of: datetime) -> None:
        self._database = database
        self._as_of = as_of

    async def size(self) -> Backlog:
        """Count them."""
        async with self._database.connection() as connection:
            leads = await connection.fetchval(_COUNT, self._as_of)
            return Backlog(int(leads), await connection.fetchval(_TOKENS))

    async def page(self, *, after: UUID, limit: int) -> list[UUID]:
        """Return some of their ids, in order, from the one after `after` on."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_PAGE, self._as_of, after, limit)
        return [row["id"] for row in rows]
