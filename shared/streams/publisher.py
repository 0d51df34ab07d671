"""Publishing events: whatever is waiting goes out in one pipelined write."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta
from typing import cast

import structlog
from redis.asyncio import Redis

from shared.background import background
from shared.batcher import Batcher, open_batcher
from shared.domain.errors import UnavailableError
from shared.events.catalog import STREAMS, groups_of, stream_of
from shared.events.envelope import Event
from shared.streams.codec import encode, flatten
from shared.streams.connection import translated_errors
from shared.streams.consuming.group import milliseconds

log = structlog.get_logger(__name__)

# The bound on a stream's memory: past it, producers are refused rather than entries lost.

# A stream outgrows its bound by what is added in between.
MEASURE_EVERY = timedelta(milliseconds=500)


class StreamFullError(UnavailableError):
    """Consumers are so far behind that the stream has reached its bound."""


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
            raise StreamFullError(f"{stream} is full: its consumers are too far behind")

    async def measure(self) -> None:
        """Look at every stream now; raises `UnavailableError`."""
        full = frozenset([name for name in self._streams if await self._is_full(name)])
        for name in full - self._full:
            log.error("stream.full", stream=name, max_bytes=self._max_bytes)
        for name in self._full - full:
            log.info("stream.has_room", stream=name)
        self._full = full

    async def run(self) -> None:
        """Measure, forever. While Redis is down nothing can be added anyway."""
        while True:
            try:
                await self.measure()
            except UnavailableError as error:
                log.warning("stream.not_measured", error=str(error))
            await asyncio.sleep(MEASURE_EVERY.total_seconds())

    async def _is_full(self, stream: str) -> bool:
        return await memory_of(self._redis, stream) > self._max_bytes


async def memory_of(redis: Redis, stream: str) -> int:
    """Return about how many bytes a stream takes up, 0 when it does not exist."""
    with translated_errors():
        return int(await redis.memory_usage(stream) or 0)


# Publishing a set of events at most once under a name, whoever tries.

# Longer than any process can sleep and still wake up to try again.
REMEMBERED = timedelta(days=1)

# All or nothing: a process that died half-way would leave the name taken.
_PUBLISH = """
local first = redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
if not first then return redis.call('GET', KEYS[1]) end
for i = 3, #ARGV do redis.call('XADD', KEYS[2], '*', unpack(cjson.decode(ARGV[i]))) end
return ARGV[1]
"""


class OncePublisher:
    """Raises `UnavailableError` when Redis is down; trying again is always safe."""

    def __init__(self, redis: Redis) -> None:
        self._publish = redis.register_script(_PUBLISH)

    async def publish(self, name: str, events: Sequence[Event]) -> list[str]:
        """Add the events unless the name is taken; returns the ids of those published under it.

        The events must belong to one stream.
        """
        if not events:
            return []
        ids = ",".join(str(event.id) for event in events)
        entries = [flatten(encode(event)) for event in events]
        with translated_errors():
            published = await self._publish(
                keys=[f"once:{name}", stream_of(events[0].data)],
                args=[ids, milliseconds(REMEMBERED), *entries],
            )
        return cast("bytes", published).decode().split(",")


class Publisher:
    """Adds events to their streams. Use through `open_publisher`."""

    def __init__(self, batcher: Batcher[Event, str], capacity: Capacity | None) -> None:
        self._batcher = batcher
        self._capacity = capacity

    async def publish(self, event: Event) -> str:
        """Add one event; returns its entry id once Redis has it.

        Raises `StreamFullError` when the stream has reached its bound, and
        `UnavailableError` when Redis did not confirm. The event may be in the stream
        all the same: publish it again under the same id, consumers apply it once.
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


@contextlib.asynccontextmanager
async def open_publisher(
    redis: Redis, *, max_bytes: int | None = None
) -> AsyncGenerator[Publisher]:
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
