"""The bound on a stream's memory: past it, producers are refused rather than entries lost."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import structlog
from redis.asyncio import Redis

from shared.domain.errors import UnavailableError
from shared.streams.connection import translated_errors

log = structlog.get_logger(__name__)

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
