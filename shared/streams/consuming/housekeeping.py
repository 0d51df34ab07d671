"""The chores that one process does for all: trimming streams, removing dead consumers."""

from collections.abc import Sequence
from datetime import timedelta

from redis.asyncio import Redis

from shared.events.catalog import groups_of
from shared.streams.connection import translated_errors
from shared.streams.consuming.group import (
    DELETE_UNLESS_PENDING,
    first_unfinished,
    groups_info,
    milliseconds,
)
from shared.streams.publisher import memory_of

# A lease that one process at a time holds, for chores that need only one.

_HOLD = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""


class Leadership:
    """The chores done under it must be harmless when two processes do them for a moment."""

    def __init__(self, redis: Redis, *, chore: str, holder: str, lease: timedelta) -> None:
        self._key = f"leader:{chore}"
        self._holder = holder
        self._lease = lease
        self._hold = redis.register_script(_HOLD)

    async def hold(self) -> bool:
        """Take or renew the lease; False when another process has it."""
        with translated_errors():
            return bool(
                await self._hold(keys=[self._key], args=[self._holder, milliseconds(self._lease)])
            )


# Forgetting old entries: never one that a group has yet to finish, whatever its age.

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


HOUSEKEEP_EVERY = timedelta(seconds=5)


class Housekeeping:
    """Done by whoever leads; raises `UnavailableError` when Redis is down."""

    def __init__(
        self,
        redis: Redis,
        *,
        streams: Sequence[str],
        retention: timedelta,
        max_bytes: int,
        name: str,
    ) -> None:
        self._trimmer = Trimmer(redis, streams=streams, retention=retention, max_bytes=max_bytes)
        self._leadership = Leadership(
            redis, chore=f"housekeeping:{streams[0]}", holder=name, lease=HOUSEKEEP_EVERY * 3
        )

    async def run(self) -> None:
        """Do the chores, if it is this process's turn."""
        if await self._leadership.hold():
            await self._trimmer.trim()
            await self._trimmer.remove_idle_consumers()
