"""Applied events read back: browsed, counted, and replayed in the order they were applied in."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, cast
from uuid import UUID

import asyncpg
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, StringConstraints

from shared.events.replay import EventFields, ReplayOrder, ReplayPage, Selection
from shared.storage.pool import Connection, Database

# The event archive as lines of JSON: out of one database, into another.

# Rows fetched from the server at a time, and how long that may take.
PREFETCH = 1_000
FETCH_TIMEOUT = timedelta(minutes=2)

# Which events: the condition of every query, on `parameters`.
SELECTED = """
    ($1::text[] IS NULL OR type = ANY($1))
    AND ($2::text[] IS NULL OR subject = ANY($2))
    AND ($3::text IS NULL OR correlation_id = $3)
    AND ($4::timestamptz IS NULL OR time >= $4)
    AND ($4::timestamptz IS NULL OR recorded_at >= $4 - $5::interval)
    AND ($6::timestamptz IS NULL OR time < $6)
    AND ($7::timestamptz IS NULL OR recorded_at < $7)
"""

_EXPORT = f"""
    SELECT row_to_json(exported)::text AS line FROM (
        SELECT id, type, source, subject, dataschema, data, time, correlation_id, payload_hash,
               outcome, detail, recorded_at
        FROM leads.event WHERE {SELECTED} ORDER BY recorded_at, id
    ) AS exported
"""  # noqa: S608 (constants)
_IMPORT = """
    INSERT INTO leads.event (
        id, type, source, subject, dataschema, data, time, correlation_id, payload_hash,
        outcome, detail, recorded_at
    )
    SELECT id, type, source, subject, dataschema, data, time, correlation_id, payload_hash,
           outcome, detail, recorded_at
    FROM jsonb_populate_recordset(NULL::leads.event, $1::jsonb)
    ON CONFLICT (id) DO NOTHING
"""


def _without_nul(value: Any) -> Any:
    if "\x00" in str(value):
        raise ValueError("PostgreSQL keeps no NUL characters")
    return value


Text = Annotated[str, AfterValidator(_without_nul)]


class ArchivedEvent(BaseModel):
    """A line of an export: a row of the event table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: UUID
    type: Text
    source: Text
    subject: Text
    dataschema: Text
    data: dict[str, Any]
    time: AwareDatetime
    correlation_id: Text
    payload_hash: Annotated[str, StringConstraints(pattern=r"^\\x[0-9a-f]{64}$")]
    outcome: Text
    detail: dict[str, Any] | None
    recorded_at: AwareDatetime


class ArchiveCopy:
    """Raises `UnavailableError` when PostgreSQL is down."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lines(
        self, selection: Selection, *, recorded_before: datetime | None = None
    ) -> AsyncGenerator[bytes]:
        """Yield each event as a line, in the order of application, from one snapshot."""
        async with self._database.transaction() as connection:
            cursor = connection.cursor(
                _EXPORT,
                *parameters(selection, recorded_before),
                prefetch=PREFETCH,
                timeout=FETCH_TIMEOUT.total_seconds(),
            )
            async for row in cursor:
                yield row["line"].encode() + b"\n"

    async def add(self, events: Sequence[ArchivedEvent]) -> int:
        """Add events that are not there yet; returns how many those were."""
        rows = ",".join(event.model_dump_json() for event in events)
        async with self._database.connection() as connection:
            status = await connection.execute(_IMPORT, f"[{rows}]")
        return int(status.rpartition(" ")[2])


# How long after it was made an event may have been applied by an earlier clock.
CLOCK_SLACK = timedelta(minutes=10)
# Counting a million events takes longer than anything else that is asked of the database.
COUNT_TIMEOUT = timedelta(minutes=2)
# Nothing is left to replay of an event whose data was erased.
_REPLAYABLE = "data <> '{}'"
_COUNTS = f"""
    SELECT type, count(*) FROM leads.event WHERE {SELECTED} AND {_REPLAYABLE} GROUP BY type
"""  # noqa: S608 (constants)
_PAGE = f"""
    SELECT id, type, source, subject, dataschema, data::text, time, correlation_id, recorded_at
    FROM leads.event
    WHERE {SELECTED} AND {_REPLAYABLE} AND (recorded_at, id) > ($8::timestamptz, $9::uuid)
    ORDER BY recorded_at, id LIMIT $10
"""  # noqa: S608 (constants)
_LATEST = f"""
    SELECT id, type, source, subject, dataschema, data::text, time, correlation_id, recorded_at,
           outcome, detail::text
    FROM leads.event WHERE {SELECTED}
    ORDER BY recorded_at DESC, id DESC LIMIT $8
"""  # noqa: S608 (constants)

# Which conditions are given decides which index serves, so no plan is good for all.
_PLAN_ANEW = "SET LOCAL plan_cache_mode = force_custom_plan"

_BEGINNING = (datetime(1, 1, 1, tzinfo=UTC), UUID(int=0))


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedEvent:
    """An event of the archive and what became of it; `data` and `detail` are JSON."""

    id: UUID
    type: str
    source: str
    subject: str
    dataschema: str
    data: str
    time: datetime
    correlation_id: str
    recorded_at: datetime
    outcome: str
    detail: str | None


class EventArchive:
    """Reads the event table. Raises `UnavailableError` when PostgreSQL is down."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def now(self) -> datetime:
        """Return the time by the clock that dates the archive."""
        async with self._database.connection() as connection:
            return cast("datetime", await connection.fetchval("SELECT clock_timestamp()"))

    async def counts(
        self, selection: Selection, *, recorded_before: datetime | None = None
    ) -> dict[str, int]:
        """Return how many events are selected, by type."""
        async with self._database.transaction() as connection:
            await connection.execute(_PLAN_ANEW)
            rows = await connection.fetch(
                _COUNTS,
                *parameters(selection, recorded_before),
                timeout=COUNT_TIMEOUT.total_seconds(),
            )
        return {row["type"]: row["count"] for row in rows}

    async def latest(self, selection: Selection, *, limit: int) -> list[AppliedEvent]:
        """Return the events applied last, newest first."""
        async with self._database.transaction() as connection:
            await connection.execute(_PLAN_ANEW)
            rows = await connection.fetch(_LATEST, *parameters(selection, None), limit)
        return [AppliedEvent(**row) for row in rows]


class ArchiveSource:
    """The archive as a source of replays."""

    def __init__(self, database: Database, order: ReplayOrder) -> None:
        self._database = database
        self._order = order
        self._archive = EventArchive(database)

    async def counts(self) -> Mapping[str, int]:
        """Return how many events there are to replay, by type."""
        return await self._archive.counts(
            self._order.selection, recorded_before=self._order.recorded_before
        )

    async def size(self) -> int:
        """Return how many events there are to replay."""
        return sum((await self.counts()).values())

    async def pages(self, *, after: str | None) -> AsyncGenerator[ReplayPage]:
        """Yield the pages behind a position: a time and an id, `2026-01-01T00:00:00+00:00/...`."""
        position = _BEGINNING if after is None else _parse(after)
        while True:
            rows = await self._read(position)
            if not rows:
                return
            position = (rows[-1]["recorded_at"], rows[-1]["id"])
            yield ReplayPage(
                events=[_fields(row) for row in rows],
                position=f"{position[0].isoformat()}/{position[1]}",
                examined=len(rows),
            )

    async def _read(self, position: tuple[datetime, UUID]) -> list[asyncpg.Record]:
        async with self._database.transaction() as connection:
            await connection.execute(_PLAN_ANEW)
            return await _page(connection, self._order, position)


async def _page(
    connection: Connection, order: ReplayOrder, position: tuple[datetime, UUID]
) -> list[asyncpg.Record]:
    selected = parameters(order.selection, order.recorded_before)
    return await connection.fetch(_PAGE, *selected, *position, order.page_size)


def parameters(selection: Selection, recorded_before: datetime | None) -> tuple[Any, ...]:
    """Return the parameters of `SELECTED`."""
    return (
        list(selection.types) or None,
        list(selection.lead_ids) or None,
        selection.correlation_id,
        selection.since,
        CLOCK_SLACK,
        selection.until,
        recorded_before,
    )


def _fields(row: asyncpg.Record) -> EventFields:
    return {
        b"id": str(row["id"]).encode(),
        b"source": row["source"].encode(),
        b"type": row["type"].encode(),
        b"subject": row["subject"].encode(),
        b"time": row["time"].isoformat(timespec="milliseconds").encode(),
        b"specversion": b"1.0",
        b"dataschema": row["dataschema"].encode(),
        b"datacontenttype": b"application/json",
        b"partitionkey": row["subject"].encode(),
        b"correlationid": row["correlation_id"].encode(),
        b"data": row["data"].encode(),
    }


def _parse(position: str) -> tuple[datetime, UUID]:
    recorded_at, _, event_id = position.partition("/")
    return datetime.fromisoformat(recorded_at), UUID(event_id)
