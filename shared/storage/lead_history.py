"""A lead's events for readers: what happened to it, from whom, and what came of it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.storage.pool import Database
from shared.storage.position import Position

_JSON = """
    row_to_json((SELECT entry FROM (SELECT
        event.id,
        event.type,
        event.source,
        to_char(event.time, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS "time",
        event.outcome,
        event.correlation_id AS "correlationId",
        event.data
    ) AS entry))::text AS json
"""
_FIRST_PAGE = f"""
    SELECT event.id, event.time, {_JSON} FROM leads.event
    WHERE subject = $1 ORDER BY time DESC, id DESC LIMIT $2
"""  # noqa: S608 (constants)
_NEXT_PAGE = f"""
    SELECT event.id, event.time, {_JSON} FROM leads.event
    WHERE subject = $1 AND (time, id) < ($3, $4)
    ORDER BY time DESC, id DESC LIMIT $2
"""  # noqa: S608 (constants)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDocument:
    """An event as clients see it; `json` is UTF-8 bytes, the rest is its place in the order."""

    id: UUID
    time: datetime
    json: bytes


class LeadHistory:
    """Raises `UnavailableError` when PostgreSQL is down."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, lead_id: UUID, *, limit: int, after: Position | None = None
    ) -> list[EventDocument]:
        """Return up to `limit` of a lead's events, newest first, that come behind `after`."""
        subject = str(lead_id)
        async with self._database.connection() as connection:
            rows = (
                await connection.fetch(_FIRST_PAGE, subject, limit)
                if after is None
                else await connection.fetch(_NEXT_PAGE, subject, limit, after.key, after.id)
            )
        return [EventDocument(**{**row, "json": row["json"].encode()}) for row in rows]
