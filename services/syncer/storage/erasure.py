"""Erasing what streams hold of a person, after the commit that has erased it in PostgreSQL."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from redis.asyncio import Redis

from shared.events.catalog import BY_TYPE, STREAMS, groups_of
from shared.lua import Key, lua_script
from shared.redis_connections import translated_errors
from shared.storage.pool import Database
from shared.streams.consuming.retry import RetryQueue
from shared.streams.ordering.layout import Divisions

_ERASED = """
    SELECT id, type, time AS made_at, recorded_at AS applied_at
    FROM leads.event WHERE leads.is_about(event, $1::text[])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasedEvent:
    """An applied event whose entries go: they were added between `made_at` and `applied_at`."""

    id: UUID
    type: str
    made_at: datetime
    applied_at: datetime


# How far the clocks of producers, PostgreSQL and Redis may be apart. What is missed for a
# clock that is further off goes when its retention is over.
CLOCK_SLACK = timedelta(seconds=5)

# Entries looked at in one call: about two milliseconds of the server's time.
PAGE = 500


# Copies of an event lie beside it: retries, and what was published twice.
@lua_script("""
local wanted = {}
for _, id in ipairs(ids) do wanted[id] = true end
local entries = redis.call('XRANGE', stream, first, last, 'COUNT', page)
local reached = false
for _, entry in ipairs(entries) do
  reached = entry[1]
  local fields = entry[2]
  for i = 1, #fields, 2 do
    if fields[i] == 'id' then
      if wanted[fields[i + 1]] then redis.call('XDEL', stream, reached) end
      break
    end
  end
end
return #entries == page and reached
""")
def _erase_entries(
    *, stream: Key, first: str, last: int, page: int, ids: Sequence[str]
) -> bytes | None:
    """Remove the entries of events among a page; returns where the next page follows, if any."""
    raise NotImplementedError


Window = tuple[datetime, datetime]


class StreamErasure:
    """Takes events about a person out of the streams, once they are applied.

    Trying again is always safe.
    """

    def __init__(self, database: Database, redis: Redis, divisions: Divisions) -> None:
        self._database = database
        self._redis = redis
        self._divisions = divisions

    async def erase_leads(self, lead_ids: Collection[UUID]) -> None:
        """Remove the entries of the events whose data a deletion of these leads has erased."""
        if not lead_ids:
            return
        await self._make_due(lead_ids)
        async with self._database.connection() as connection:
            rows = await connection.fetch(_ERASED, list(map(str, lead_ids)))
        await self.erase_events([ErasedEvent(**row) for row in rows])

    async def erase_events(self, events: Sequence[ErasedEvent]) -> None:
        """Remove the entries of applied events: every group is past them, or has them at hand."""
        by_stream: defaultdict[str, list[ErasedEvent]] = defaultdict(list)
        for event in events:
            if event.type in BY_TYPE:
                by_stream[BY_TYPE[event.type].stream].append(event)
        for stream, erased in by_stream.items():
            ids = [str(event.id) for event in erased]
            for name in await self._divisions.streams_of(stream):
                for window in _windows(erased):
                    await self._erase_within(name, window, ids)

    async def _make_due(self, lead_ids: Collection[UUID]) -> None:
        """Have what waits for its retry come now: it ends as the lead has, and goes as well."""
        for stream in STREAMS:
            for group in groups_of(stream):
                queue = RetryQueue(self._redis, stream=stream, group=group)
                for lead_id in lead_ids:
                    await queue.make_due(lead_id)

    async def _erase_within(self, stream: str, window: Window, ids: Sequence[str]) -> None:
        start, end = (_milliseconds(moment) for moment in window)
        first: str | None = str(start)
        while first is not None:
            with translated_errors():
                reached = await _erase_entries(
                    self._redis, stream=stream, first=first, last=end, page=PAGE, ids=ids
                )
            first = None if reached is None else f"({reached.decode()}"


def _windows(events: Sequence[ErasedEvent]) -> Iterator[Window]:
    """Yield the times in which the events' entries were added, none of them twice."""
    spans = sorted(
        (event.made_at - CLOCK_SLACK, event.applied_at + CLOCK_SLACK) for event in events
    )
    start, end = spans[0]
    for next_start, next_end in spans[1:]:
        if next_start > end:
            yield start, end
            start, end = next_start, next_end
        end = max(end, next_end)
    yield start, end


def _milliseconds(moment: datetime) -> int:
    return max(0, int(moment.timestamp() * 1000))
