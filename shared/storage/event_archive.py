"""Applied events read back: browsed, counted, and replayed in the order they were applied in."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

import asyncpg

from shared.events.catalog import LEADS, SYNCER
from shared.events.replay import EventFields, ReplayOrder, ReplayPage, Selection
from shared.storage.pool import Database

# Counting a million events takes longer than anything else that is asked of the database.
COUNT_TIMEOUT = timedelta(minutes=2)

# An event whose data was erased has nothing left to replay.
_COUNTS = """
    SELECT type, count(*) FROM leads.archived_events($1, $2, $3, $4, $5, $6)
    WHERE data <> '{}' GROUP BY type
"""
# Of a row of `leads.lead`: a look at one index says whether a later version is archived.
IS_BEHIND = """EXISTS (
        SELECT FROM leads.event
        WHERE event.subject = lead.id::text AND outcome IN ('updated', 'summarised', 'deleted')
          AND (event.detail ->> 'version')::bigint > lead.version
    )"""
# Where the syncer would find an event's effect as it left it: its lead is all that it became, or
# the event changed none. The key by which a lead's events find their partition is the one that it
# was made with.
_PAGE = """
    WITH page AS MATERIALIZED (
        SELECT id, subject, outcome, position
        FROM leads.archived_events($1, $2, $3, $4, $5, $6)
        WHERE data <> '{}' AND position > $7
        ORDER BY position LIMIT $8
    ), looked AS MATERIALIZED (
        SELECT id, position, $9 AND CASE
            WHEN outcome NOT IN ('created', 'updated', 'deleted') THEN true
            WHEN subject !~ '^[0-9a-f-]{36}$' THEN false
            ELSE EXISTS (
                SELECT FROM leads.lead WHERE lead.id = page.subject::uuid AND NOT :is_behind
            )
        END AS is_there
        FROM page
    )
    SELECT looked.position, event.id, type, source, subject, dataschema, data::text, time,
           correlation_id, accepted, coalesce((
               SELECT coalesce(made.data ->> 'externalId', made.data #>> '{lead,externalId}')
               FROM leads.event AS made
               WHERE made.subject = event.subject AND made.outcome = 'created' LIMIT 1
           ), subject) AS key
    FROM looked LEFT JOIN leads.event ON event.id = looked.id AND NOT is_there
    ORDER BY looked.position
""".replace(":is_behind", IS_BEHIND)
_LATEST = """
    SELECT id, type, source, subject, dataschema, data::text, time, correlation_id, applied_at,
           recorded_at, outcome, detail::text
    FROM leads.archived_events($1, $2, $3, $4, $5, $6)
    ORDER BY position DESC LIMIT $7
"""
_LAST_POSITION = "SELECT coalesce(max(position), 0) FROM leads.event"

# Which conditions are given decides which index serves, so no plan is good for all.
_PLAN_ANEW = "SET LOCAL plan_cache_mode = force_custom_plan"


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

    async def last_position(self) -> int:
        """Return the position of the event applied last; 0 when there is none."""
        async with self._database.connection() as connection:
            return cast("int", await connection.fetchval(_LAST_POSITION))

    async def counts(
        self, selection: Selection, *, last_position: int | None = None
    ) -> dict[str, int]:
        """Return how many events with data are selected, by type."""
        rows = await self._fetch(
            _COUNTS,
            *to_parameters(selection, last_position),
            timeout=COUNT_TIMEOUT.total_seconds(),
        )
        return {row["type"]: row["count"] for row in rows}

    async def latest(self, selection: Selection, *, limit: int) -> list[AppliedEvent]:
        """Return the events applied last, newest first."""
        rows = await self._fetch(_LATEST, *to_parameters(selection), limit)
        return [AppliedEvent(**row) for row in rows]

    async def page(self, order: ReplayOrder, *, after: int) -> list[asyncpg.Record]:
        """Return the next events to replay after a position, oldest first.

        Those whose effect is there have a position only, if the order is for the syncer. Other
        groups may make of an event whatever they like.
        """
        selected = to_parameters(order.selection, order.last_position)
        looks = (order.stream, order.group) == (LEADS, SYNCER)
        return await self._fetch(_PAGE, *selected, after, order.page_size, looks)

    async def _fetch(
        self,
        query: str,
        *parameters: object,
        timeout: float | None = None,  # noqa: ASYNC109 (the driver's)
    ) -> list[asyncpg.Record]:
        async with self._database.transaction(setting=_PLAN_ANEW) as connection:
            return await connection.fetch(query, *parameters, timeout=timeout)


class ArchiveSource:
    """The archive as a source of replays."""

    def __init__(self, database: Database, order: ReplayOrder) -> None:
        self._order = order
        self._archive = EventArchive(database)

    async def counts(self) -> Mapping[str, int]:
        """Return how many events there are to replay, by type."""
        return await self._archive.counts(
            self._order.selection, last_position=self._order.last_position
        )

    async def size(self) -> int:
        """Return how many events there are to replay."""
        return sum((await self.counts()).values())

    async def pages(self, *, after: str | None) -> AsyncGenerator[ReplayPage]:
        """Yield the pages after a position, which is a number."""
        position = 0 if after is None else _parse_position(after)
        while rows := await self._archive.page(self._order, after=position):
            position = rows[-1]["position"]
            yield ReplayPage(
                events=[_to_fields(row) for row in rows if row["id"] is not None],
                position=str(position),
                examined=len(rows),
                there=frozenset(place for place, row in enumerate(rows) if row["id"] is None),
            )


def to_parameters(selection: Selection, last_position: int | None = None) -> tuple[Any, ...]:
    """Return the parameters of `leads.archived_events`."""
    return (
        list(selection.types) or None,
        list(selection.lead_ids) or None,
        selection.correlation_id,
        selection.since,
        selection.until,
        last_position,
    )


def _to_fields(row: asyncpg.Record) -> EventFields:
    accepted = {} if row["accepted"] is None else {b"accepted": row["accepted"].encode()}
    return accepted | {
        b"id": str(row["id"]).encode(),
        b"source": row["source"].encode(),
        b"type": row["type"].encode(),
        b"subject": row["subject"].encode(),
        b"time": row["time"].isoformat(timespec="milliseconds").encode(),
        b"specversion": b"1.0",
        b"dataschema": row["dataschema"].encode(),
        b"datacontenttype": b"application/json",
        b"partitionkey": row["key"].encode(),
        b"correlationid": row["correlation_id"].encode(),
        b"data": row["data"].encode(),
    }


def _parse_position(position: str) -> int:
    # One that was kept before events had numbers: to begin anew repeats, and does no harm.
    return int(position) if position.isdigit() else 0
