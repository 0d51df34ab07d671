"""Publishing events: whatever is waiting goes out in one pipelined write."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta

import structlog
from redis.asyncio import Redis

from shared.background import background
from shared.batcher import Batcher, open_batcher
from shared.domain.errors import UnavailableError
from shared.events.catalog import STREAMS, groups_of, stream_of
from shared.events.envelope import Event
from shared.lua import Key, lua_script
from shared.redis_connections import translated_errors
from shared.streams.codec import encode, flatten

log = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def open_publisher(
    redis: Redis, *, max_bytes: int | None = None
) -> AsyncGenerator["Publisher"]:
    """Run a publisher for the length of the block.

    With `max_bytes` it refuses events for streams that consumers are too far behind with.
    """

    async def send(events: Sequence[Event]) -> list[str]:
        return await add_events(redis, events)

    async with contextlib.AsyncExitStack() as stack:
        capacity = None
        if max_bytes is not None:
            bounded = [stream for stream in STREAMS if any(groups_of(stream))]
            capacity = Capacity(redis, streams=bounded, max_bytes=max_bytes)
            await stack.enter_async_context(background(capacity.run(), name="stream capacity"))
        batcher = await stack.enter_async_context(open_batcher(send, name="publisher"))
        yield Publisher(batcher, capacity)


class Publisher:
    """Adds events to their streams. Use through `open_publisher`."""

    def __init__(self, batcher: Batcher[Event, str], capacity: "Capacity | None") -> None:
        self._batcher = batcher
        self._capacity = capacity

    async def publish(self, event: Event) -> str:
        """Add one event; returns its entry id once Redis has it.

        Raises `StreamFullError` when the stream has reached its bound. After any other
        `UnavailableError` the event may be in the stream all the same: publish it again under
        the same id, consumers apply it once.
        """
        if self._capacity is not None:
            self._capacity.check(stream_of(event.data))
        return await self._batcher.submit(event)

    async def publish_all(self, events: Sequence[Event]) -> None:
        """Add several events in order, in one round trip; raises like `publish`."""
        await asyncio.gather(*(self.publish(event) for event in events))


async def add_events(redis: Redis, events: Sequence[Event]) -> list[str]:
    """Add events in order, in one round trip; returns their entry ids, raises like `publish`."""
    if not events:
        return []
    with translated_errors():
        async with redis.pipeline(transaction=False) as pipeline:
            for event in events:
                pipeline.xadd(stream_of(event.data), encode(event))
            return [entry_id.decode() for entry_id in await pipeline.execute()]


# The bound on a stream's memory: past it, producers are refused rather than entries lost.

# A stream outgrows its bound by what is added in between.
MEASURE_EVERY = timedelta(milliseconds=500)


class StreamFullError(UnavailableError):
    """Consumers are so far behind that the stream has reached its bound."""

    def __init__(self, stream: str) -> None:
        super().__init__(f"{stream} is full: its consumers are too far behind")


class Capacity:
    """Measures streams in the background; `check` costs nothing."""

    def __init__(self, redis: Redis, *, streams: Sequence[str], max_bytes: int) -> None:
        self._redis = redis
        self._streams = streams
        self._max_bytes = max_bytes
        self._full: frozenset[str] = frozenset()

    def check(self, stream: str) -> None:
        """Raise `StreamFullError` when the stream had no room at the last measurement."""
        if stream in self._full:
            raise StreamFullError(stream)

    async def run(self) -> None:
        """Measure, forever. While Redis is down nothing can be added anyway."""
        while True:
            try:
                await self.measure()
            except UnavailableError as error:
                log.warning("stream.not_measured", error=str(error))
            await asyncio.sleep(MEASURE_EVERY.total_seconds())

    async def measure(self) -> None:
        """Look at every stream now."""
        full = frozenset(
            [name for name in self._streams if await memory_of(self._redis, name) > self._max_bytes]
        )
        for name in full - self._full:
            log.error("stream.full", stream=name, max_bytes=self._max_bytes)
        for name in self._full - full:
            log.info("stream.has_room", stream=name)
        self._full = full


async def memory_of(redis: Redis, stream: str) -> int:
    """Return about how many bytes a stream takes up, 0 when it does not exist."""
    with translated_errors():
        return int(await redis.memory_usage(stream) or 0)


# Publishing a set of events at most once under a name, however many processes try.

# Longer than any process can sleep and still wake up to try again.
REMEMBERED = timedelta(days=1)


class OncePublisher:
    """Publishes under names that are used once. Trying again is always safe."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def publish(self, name: str, events: Sequence[Event]) -> list[str]:
        """Add the events unless the name is taken; returns the ids of those published under it.

        The events must belong to one stream.
        """
        if not events:
            return []
        with translated_errors():
            ids = await publish_once(
                self._redis,
                name=f"once:{name}",
                stream=stream_of(events[0].data),
                ids=",".join(str(event.id) for event in events),
                remembered=REMEMBERED,
                entries=[flatten(encode(event)) for event in events],
            )
        return ids.split(",")


# All or nothing: a process that died half-way would leave the name taken.
@lua_script("""
if not redis.call('SET', name, ids, 'NX', 'PX', remembered) then return redis.call('GET', name) end
for _, entry in ipairs(entries) do redis.call('XADD', stream, '*', unpack(cjson.decode(entry))) end
return ids
""")
def publish_once(
    *, name: Key, stream: Key, ids: str, remembered: timedelta, entries: Sequence[bytes]
) -> str:
    """Add entries, each a JSON array of fields, unless the name is taken; returns its `ids`."""
    raise NotImplementedError
