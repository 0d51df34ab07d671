"""Forgetting old entries: never one that a group has yet to finish, whatever its age."""

from collections.abc import Sequence
from datetime import timedelta

from redis.asyncio import Redis

from shared.events.catalog import groups_of
from shared.streams.capacity import memory_of
from shared.streams.connection import translated_errors
from shared.streams.group import DELETE_UNLESS_PENDING, milliseconds
from shared.streams.group_progress import first_unfinished, groups_info

# A consumer idle for longer has ended without saying so.
CONSUMER_IDLE = timedelta(hours=1)


class Trimmer:
    """The leader's chore for some streams; raises `UnavailableError` when Redis is down."""

    def __init__(
        self, client: Redis, *, streams: Sequence[str], retention: timedelta, max_bytes: int
    ) -> None:
        self._redis = client
        self._streams = streams
        self._retention = retention
        self._high_water = max_bytes // 2
        self._delete_unless_pending = client.register_script(DELETE_UNLESS_PENDING)

    async def trim(self) -> None:
        """Drop entries older than the retention that every group has finished."""
        with translated_errors():
            for stream in self._streams:
                boundary = await self._boundary(stream)
                if boundary is not None:
                    await self._redis.xtrim(stream, minid=boundary, approximate=True)

    async def remove_idle_consumers(self) -> None:
        """Delete consumers that are long idle with nothing pending."""
        with translated_errors():
            for stream in self._streams:
                for group in await groups_info(self._redis, stream):
                    await self._remove_idle(stream, group["name"].decode())

    async def _remove_idle(self, stream: str, group: str) -> None:
        for consumer in await self._redis.xinfo_consumers(stream, group):
            if consumer["pending"] == 0 and consumer["idle"] > milliseconds(CONSUMER_IDLE):
                # It may have woken up and read since.
                await self._delete_unless_pending(keys=[stream], args=[group, consumer["name"]])

    async def _boundary(self, stream: str) -> str | None:
        groups = await groups_info(self._redis, stream)
        names = {group["name"].decode() for group in groups}
        if not names.issuperset(groups_of(stream)):
            return None  # a group that has yet to be made has finished nothing
        unfinished = [await first_unfinished(self._redis, stream, group) for group in groups]
        # History makes way before new events are refused: the archive has it too.
        if not unfinished or await memory_of(self._redis, stream) < self._high_water:
            # The server's clock: a host whose clock is ahead would trim what is still young.
            seconds, microseconds = await self._redis.time()
            present = seconds * 1000 + microseconds // 1000
            unfinished.append((present - milliseconds(self._retention), 0))
        return "{}-{}".format(*min(unfinished))
