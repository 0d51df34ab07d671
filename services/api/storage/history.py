"""A lead's events for readers: what happened to it, from whom, and what came of it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.storage.pool import Database

# Places in an order, where pages begin.


@dataclass(frozen=True, slots=True)
class Position:
    """A row's place in an order: what it is sorted by, and the id that decides between equals."""

    key: datetime | str
    id: UUID


# A lead's summaries for readers: every request, its state, and where its text came from.

_SUMMARY_JSON = """
    row_to_json((SELECT entry FROM (SELECT
        summary.id,
        summary.lead_id AS "leadId",
        summary.state,
        summary.summary,
        summary.next_action AS "nextAction",
        summary.lead_version AS "leadVersion",
        summary.provider,
        summary.model,
        summary.prompt_version AS "promptVersion",
        encode(summary.input_hash, 'hex') AS "inputHash",
        summary.reused,
        summary.joined_id AS "joinedId",
        summary.tokens_in AS "tokensIn",
        summary.tokens_out AS "tokensOut",
        summary.attempts,
        summary.latency_ms AS "latencyMs",
        summary.reason,
        summary.detail,
        summary.requested_by AS "requestedBy",
        to_char(summary.requested_at, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS "requestedAt",
        to_char(summary.started_at, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS "startedAt",
        to_char(summary.finished_at, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS "finishedAt",
        to_char(summary.deadline, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS "deadline"
    ) AS entry))::text AS json
"""
_SUMMARY_FIRST_PAGE = f"""
    SELECT summary.id, summary.requested_at, {_SUMMARY_JSON} FROM leads.summary
    WHERE lead_id = $1 ORDER BY requested_at DESC, id DESC LIMIT $2
"""  # noqa: S608 (constants)
_SUMMARY_NEXT_PAGE = f"""
    SELECT summary.id, summary.requested_at, {_SUMMARY_JSON} FROM leads.summary
    WHERE lead_id = $1 AND (requested_at, id) < ($3, $4)
    ORDER BY requested_at DESC, id DESC LIMIT $2
"""  # noqa: S608 (constants)
_HAS_BEGUN = """
    SELECT state <> 'queued' OR joined_id IS NOT NULL FROM leads.summary WHERE id = $1
"""
_SUMMARY_BY_ID = (
    f"SELECT summary.id, requested_at, {_SUMMARY_JSON} FROM leads.summary WHERE id = $1"  # noqa: S608 (constants)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryDocument:
    """One request as clients see it; `json` is UTF-8 bytes, the rest is its place in the order."""

    id: UUID
    requested_at: datetime
    json: bytes


class SummaryHistory:
    """Every method raises `UnavailableError` when PostgreSQL is down."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, lead_id: UUID, *, limit: int, after: Position | None = None
    ) -> list[SummaryDocument]:
        """Return up to `limit` of a lead's requests, newest first, that come behind `after`."""
        async with self._database.connection() as connection:
            rows = (
                await connection.fetch(_SUMMARY_FIRST_PAGE, lead_id, limit)
                if after is None
                else await connection.fetch(_SUMMARY_NEXT_PAGE, lead_id, limit, after.key, after.id)
            )
        return [SummaryDocument(**{**row, "json": row["json"].encode()}) for row in rows]

    async def get(self, request_id: UUID) -> SummaryDocument | None:
        """Return one request: it has the id of the event that asked."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_SUMMARY_BY_ID, request_id)
        return None if row is None else SummaryDocument(**{**row, "json": row["json"].encode()})

    async def has_begun(self, request_id: UUID) -> bool:
        """Tell whether somebody is at a request, or through with it."""
        async with self._database.connection() as connection:
            return bool(await connection.fetchval(_HAS_BEGUN, request_id))


_EVENT_JSON = """
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
_EVENT_FIRST_PAGE = f"""
    SELECT event.id, event.time, {_EVENT_JSON} FROM leads.event
    WHERE subject = $1 ORDER BY time DESC, id DESC LIMIT $2
"""  # noqa: S608 (constants)
_EVENT_NEXT_PAGE = f"""
    SELECT event.id, event.time, {_EVENT_JSON} FROM leads.event
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
                await connection.fetch(_EVENT_FIRST_PAGE, subject, limit)
                if after is None
                else await connection.fetch(_EVENT_NEXT_PAGE, subject, limit, after.key, after.id)
            )
        return [EventDocument(**{**row, "json": row["json"].encode()}) for row in rows]
