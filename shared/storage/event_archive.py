"""Applied events read back: browsed, counted, and replayed in the order they were applied in."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import asyncpg

from shared.events.replay import EventFields, ReplayOrder, ReplayPage, Selection
from shared.storage.pool import Database

# Counting a million events takes longer than anything else that is asked of the database.
COUNT_TIMEOUT = timedelta(minutes=2)

# An event whose data was erased has nothing left to replay.
_COUNTS = """
    SELECT type, count(*) FROM leads.selected_events($1, $2, $3, $4, $5, $6)
    WHERE data <> '{}' GROUP BY type
"""
_PAGE = """
    SELECT id, type, source, subject, dataschema, data::text, time, correlation_id, recorded_at
    FROM leads.selected_events($1, $2, $3, $4, $5, $6)
    WHERE data <> '{}' AND (recorded_at, id) > ($7::timestamptz, $8::uuid)
    ORDER BY recorded_at, id LIMIT $9
"""
_LATEST = """
    SELECT id, type, source, subject, dataschema, data::text, time, correlation_id, applied_at,
           recorded_at, outcome, detail::text
    FROM leads.selected_events($1, $2, $3, $4, $5, $6)
    ORDER BY recorded_at DESC, id DESC LIMIT $7
"""

# Which conditions are given decides which index serves, so no plan is good for all.
_PLAN_ANEW = "SET LOCAL plan_cache_mode = force_custom_plan"

_BEGINNING = (datetime(1, 1, 1, tzinfo=UTC), UUID(int=0))


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedEvent:
    """An event of the archive and its outcome; `data` and `detail` are JSON."""

    id: UUID
    type: str
    source: str
    subject: str
    dataschema: str
    data: str
    time: datetime
    correlation_id: str
    applied_at: datetime | None
    recorded_at: datetime
    outcome: str
    detail: str | None


class EventArchive:
    """Reads the event table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def now(self) -> datetime:
        """Return the time by the clock that dates the archive."""
        async with self._database.connection() as connection:
            return cast("datetime", await connection.fetchval("SELECT clock_timestamp()"))

    async def counts(
        self, selection: Selection, *, recorded_before: datetime | None = None
    ) -> dict[str, int]:
        """Return how many events with data are selected, by type."""
        rows = await self._fetch(
            _COUNTS,
            *to_parameters(selection, recorded_before),
            timeout=COUNT_TIMEOUT.total_seconds(),
        )
        return {row["type"]: row["count"] for row in rows}

    async def latest(self, selection: Selection, *, limit: int) -> list[AppliedEvent]:
        """Return the events applied last, newest first."""
        rows = await self._fetch(_LATEST, *to_parameters(selection), limit)
        return [AppliedEvent(**row) for row in rows]

    async def page(
        self, order: ReplayOrder, *, after: tuple[datetime, UUID]
    ) -> list[asyncpg.Record]:
        """Return the next events to replay after a time of recording and an id."""
        selected = to_parameters(order.selection, order.recorded_before)
        return await self._fetch(_PAGE, *selected, *after, order.page_size)

    async def _fetch(
        self,
        query: str,
        *parameters: object,
        timeout: float | None = None,  # noqa: ASYNC109 (the driver's)
    ) -> list[asyncpg.Record]:
        async with self._database.transaction() as connection:
            await connection.execute(_PLAN_ANEW)
            return await connection.fetch(query, *parameters, timeout=timeout)


class ArchiveSource:
    """The archive as a source of replays."""

    def __init__(self, database: Database, order: ReplayOrder) -> None:
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
        """Yield the pages after a position: a time and an id, `2026-01-01T00:00:00+00:00/...`."""
        position = _BEGINNING if after is None else _parse_position(after)
        while rows := await self._archive.page(self._order, after=position):
            position = (rows[-1]["recorded_at"], rows[-1]["id"])
            yield ReplayPage(
                events=[_to_fields(row) for row in rows],
                position=f"{position[0].isoformat()}/{position[1]}",
                examined=len(rows),
            )


def to_parameters(selection: Selection, recorded_before: datetime | None = None) -> tuple[Any, ...]:
    """Return the parameters of `leads.selected_events`."""
    return (
        list(selection.types) or None,
        list(selection.lead_ids) or None,
        selection.correlation_id,
        selection.since,
        selection.until,
        recorded_before,
    )


def _to_fields(row: asyncpg.Record) -> EventFields:
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


def _parse_position(position: str) -> tuple[datetime, UUID]:
    recorded_at, _, event_id = position.partition("/")
    return datetime.fromisoformat(recorded_at), UUID(event_id)
