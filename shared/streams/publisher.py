"""Publishing events: whatever is waiting goes out in one pipelined write."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence

from redis.asyncio import Redis

from shared.background import background
from shared.batcher import Batcher, open_batcher
from shared.events.catalog import STREAMS, groups_of, stream_of
from shared.events.envelope import Event
from shared.streams.capacity import Capacity
from shared.streams.codec import encode
from shared.streams.connection import translated_errors


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
