"""The live stream as a source of replays."""

import itertools
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from datetime import datetime, timedelta

from redis.asyncio import Redis

from shared.events.replay import ReplayOrder, ReplayOrigin, ReplayPage
from shared.redis_connections import translated_errors
from shared.streams.codec import Entry, Fields, entries_of, entry_id
from shared.streams.ordering.layout import Divisions

# How much later by its own clock than by Redis' an event may have been made.
CLOCK_SLACK = timedelta(minutes=10)


class StreamSource:
    """Reads a stream without touching its groups: of one with partitions all, by entry ids.

    Entries that were put back (retries, replays) are left out: each is a copy of another.
    """

    def __init__(
        self, redis: Redis, order: ReplayOrder, divisions: Divisions | None = None
    ) -> None:
        self._redis = redis
        self._order = order
        self._divisions = divisions or Divisions(redis)

    async def counts(self) -> Mapping[str, int]:
        """Return how many events there are to replay, by type. Reads all of them."""
        counts: Counter[str] = Counter()
        async for page in self.pages(after=None):
            counts.update(
                fields.get(b"type", b"").decode(errors="replace") for fields in page.events
            )
        return counts

    async def size(self) -> int:
        """Return the stream's length: no fewer than will be examined, without reading them."""
        streams = await self._divisions.streams_of(self._order.stream)
        with translated_errors():
            return sum([int(await self._redis.xlen(stream)) for stream in streams])

    async def pages(self, *, after: str | None) -> AsyncGenerator[ReplayPage]:
        """Yield the pages after an entry id, or from the order's first on."""
        start = self._first() if after is None else f"({after}"
        while True:
            entries = await self._read(start)
            if not entries:
                return
            yield ReplayPage(
                events=[entry.fields for entry in entries if self._selects(entry.fields)],
                position=entries[-1].id,
                examined=len(entries),
            )
            start = f"({entries[-1].id}"

    async def _read(self, start: str) -> list[Entry]:
        """Return the next entries of all partitions: none that is left out is before the last."""
        streams = await self._divisions.streams_of(self._order.stream)
        count = max(1, self._order.page_size // len(streams))
        pages = [await self._read_one(stream, start, count=count) for stream in streams]
        # Where there is more to read, it comes after this.
        ends = [entry_id(page[-1].id) for page in pages if len(page) == count]
        found = sorted(itertools.chain(*pages), key=lambda entry: entry_id(entry.id))
        if ends:
            return [entry for entry in found if entry_id(entry.id) <= min(ends)]
        return found

    async def _read_one(self, stream: str, start: str, *, count: int) -> list[Entry]:
        with translated_errors():
            reply = await self._redis.xrange(
                stream, min=start, max=self._order.last or "+", count=count
            )
        return entries_of(reply)

    def _first(self) -> str:
        since = self._order.selection.since
        if self._order.first is not None or since is None:
            return self._order.first or "-"
        # No event is added before it is made.
        return str(max(0, int((since - CLOCK_SLACK).timestamp() * 1000)))

    def _selects(self, fields: Fields) -> bool:
        return b"onlygroup" not in fields and self._order.selection.matches(fields)


async def oldest_time(
    redis: Redis, stream: str, divisions: Divisions | None = None
) -> datetime | None:
    """Return when the oldest event that the stream still holds was made; None for no stream.

    Copies do not count: an old event that was put back is no sign that its time is covered.
    """
    order = ReplayOrder(origin=ReplayOrigin.STREAM, stream=stream, group="")
    async for page in StreamSource(redis, order, divisions).pages(after=None):
        if page.events:
            return datetime.fromisoformat(page.events[0][b"time"].decode())
    return None
