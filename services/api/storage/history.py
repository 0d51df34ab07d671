"""What happened to a lead, newest first: the events about it, and the requests for its summary."""

from datetime import UTC, datetime
from uuid import UUID

from services.api.storage.pages import PageRow, Position, page_rows
from shared.storage.pool import Database

# A first page begins where nothing is newer: so one statement, and one plan, serves every page.
_NEWEST = Position(datetime(9999, 12, 31, tzinfo=UTC), UUID(int=2**128 - 1))

_EVENTS = """
    SELECT time AS key, id, leads.event_json(event) AS json
    FROM leads.event
    WHERE subject = $1 AND (time, id) < ($3, $4)
    ORDER BY time DESC, id DESC LIMIT $2
"""
_SUMMARIES = """
    SELECT requested_at AS key, id, leads.summary_json(request) AS json
    FROM leads.summary AS request
    WHERE lead_id = $1 AND (requested_at, id) < ($3, $4)
    ORDER BY requested_at DESC, id DESC LIMIT $2
"""
_HAS_BEGUN = """
    SELECT state <> 'queued' OR joined_id IS NOT NULL FROM leads.summary WHERE id = $1
"""


class LeadHistory:
    """A lead's events and summaries, page by page."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def events(
        self, lead_id: UUID, *, limit: int, after: Position | None = None
    ) -> list[PageRow]:
        """Return up to `limit` of a lead's events that come after a position."""
        return await self._page(_EVENTS, str(lead_id), limit, after or _NEWEST)

    async def summaries(
        self, lead_id: UUID, *, limit: int, after: Position | None = None
    ) -> list[PageRow]:
        """Return up to `limit` of the requests for a lead's summary that come after a position."""
        return await self._page(_SUMMARIES, lead_id, limit, after or _NEWEST)

    async def has_summary_begun(self, request_id: UUID) -> bool:
        """Whether a request for a summary is being worked on, or done."""
        async with self._database.connection() as connection:
            return bool(await connection.fetchval(_HAS_BEGUN, request_id))

    async def _page(
        self, query: str, owner: str | UUID, limit: int, after: Position
    ) -> list[PageRow]:
        async with self._database.connection() as connection:
            return page_rows(await connection.fetch(query, owner, limit, after.key, after.id))
