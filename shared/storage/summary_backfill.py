"""Leads that have no summary, for asking for theirs."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.storage.pool import Database

# Without those that are being written: asking again would only join them.
_LACKING = """
    summary IS NULL AND created_at <= $1 AND NOT EXISTS (
        SELECT FROM leads.summary
        WHERE summary.lead_id = lead.id AND summary.state IN ('queued', 'running')
    )
"""
_COUNT = f"SELECT count(*) FROM leads.lead WHERE {_LACKING}"  # noqa: S608 (constants)
_PAGE = f"""
    SELECT id FROM leads.lead WHERE {_LACKING} AND id > $2 ORDER BY id LIMIT $3
"""  # noqa: S608 (constants)
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
        """About how many tokens all of them will take; None when nothing tells."""
        return None if self.tokens_each is None else round(self.leads * self.tokens_each)


class SummaryBackfill:
    """Looks at leads as of a moment. Raises `UnavailableError` when PostgreSQL is down."""

    def __init__(self, database: Database, *, as_of: datetime) -> None:
        self._database = database
        self._as_of = as_of

    async def backlog(self) -> Backlog:
        """Count them."""
        async with self._database.connection() as connection:
            leads = await connection.fetchval(_COUNT, self._as_of)
            return Backlog(int(leads), await connection.fetchval(_TOKENS))

    async def page(self, *, after: UUID, limit: int) -> list[UUID]:
        """Return the ids of some, in order, behind `after`."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_PAGE, self._as_of, after, limit)
        return [row["id"] for row in rows]
