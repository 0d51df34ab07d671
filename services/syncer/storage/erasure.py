"""Taking events about a person out of the streams, once they are applied."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from redis.asyncio import Redis

from shared.events.catalog import BY_TYPE, STREAMS, groups_of
from shared.streams.connection import translated_errors
from shared.streams.consuming.retry import RetryQueue

# Events about a person who is to be forgotten.


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
_ERASE = """
local wanted = {}
for i = 4, #ARGV do wanted[ARGV[i]] = true end
local entries = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', ARGV[3])
local last = false
for _, entry in ipairs(entries) do
  last = entry[1]
  local fields = entry[2]
  for i = 1, #fields, 2 do
    if fields[i] == 'id' then
      if wanted[fields[i + 1]] then redis.call('XDEL', KEYS[1], last) end
      break
    end
  end
end
return #entries == tonumber(ARGV[3]) and last
"""

Window = tuple[datetime, datetime]


class StreamErasure:
    """Raises `UnavailableError` when Redis is down; trying again is always safe."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._erase = redis.register_script(_ERASE)

    async def erase(self, events: Sequence[ErasedEvent]) -> None:
        """Remove the entries of applied events: every group is past them, or has them at hand."""
        by_stream: defaultdict[str, list[ErasedEvent]] = defaultdict(list)
        for event in events:
            if event.type in BY_TYPE:
                by_stream[BY_TYPE[event.type].stream].append(event)
        for stream, erased in by_stream.items():
            ids = [str(event.id) for event in erased]
            for window in _windows(erased):
                await self._erase_within(stream, window, ids)

    async def make_due(self, lead_ids: Collection[UUID]) -> None:
        """Have what waits for its retry come now: it ends as the lead has, and goes as well."""
        for stream in STREAMS:
            for group in groups_of(stream):
                queue = RetryQueue(self._redis, stream=stream, group=group)
                for lead_id in lead_ids:
                    await queue.make_due(lead_id)

    async def _erase_within(self, stream: str, window: Window, ids: Sequence[str]) -> None:
        start, end = (_milliseconds(moment) for moment in window)
        position: str | None = str(start)
        while position is not None:
            with translated_errors():
                last = await self._erase(keys=[stream], args=[position, end, PAGE, *ids])
            position = None if last is None else f"({last.decode()}"


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
