"""The chores that one process does for all: trimming streams, removing dead consumers."""

import math
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta

from redis.asyncio import Redis

from shared.domain.errors import UnavailableError
from shared.events.catalog import groups_of
from shared.lua import Key, lua_script
from shared.observability.outages import Outages
from shared.redis_connections import milliseconds, translated_errors
from shared.streams.codec import EntryId
from shared.streams.consuming.group import (
    delete_unless_pending,
    first_entry,
    first_unfinished,
    groups_info,
    time_at,
)
from shared.streams.ordering.layout import Divisions
from shared.streams.publisher import memory_of
from shared.streams.replays.jobs import remove_copies

HOUSEKEEP_EVERY = timedelta(seconds=5)
# What has not changed since the last time is looked at so often: entries age.
LOOK_AGAIN_EVERY = timedelta(minutes=1)

# A consumer idle for longer has ended without saying so.
CONSUMER_IDLE = timedelta(hours=1)


class Housekeeping:
    """Forgets old entries, but never one that a group has yet to finish, whatever its age.

    One process at a time does it, under a lease. It is harmless when two do for a moment.
    """

    def __init__(
        self,
        redis: Redis,
        divisions: Divisions | None = None,
        *,
        streams: Sequence[str],
        retention: timedelta,
        max_bytes: int,
        name: str,
        outages: Outages | None = None,
    ) -> None:
        self._redis = redis
        self._divisions = divisions or Divisions(redis)
        self._streams = streams
        self._retention = retention
        self._high_water = max_bytes // 2
        self._name = name
        self.outages = outages or Outages()
        # Which groups keep old entries from being dropped, by stream and partition.
        self._blocked: dict[str, str] = {}
        self._memory: dict[str, int] = {}
        self._look_again_at = -math.inf

    @property
    def troubles(self) -> Collection[str]:
        """What keeps entries that nobody needs from being dropped; known to one process alone."""
        return self._blocked.values()

    async def run(self) -> None:
        """Do the chores, if it is this process's turn."""
        if not await self.hold_lease(HOUSEKEEP_EVERY * 3):
            self._blocked.clear()
            self._memory.clear()
        elif self._blocked or time.monotonic() >= self._look_again_at:
            await self.trim()
            await self.remove_idle_consumers()
            again = min(LOOK_AGAIN_EVERY, self._retention)
            self._look_again_at = time.monotonic() + again.total_seconds()
        else:
            await self.trim(only_changed=True)

    async def hold_lease(self, span: timedelta) -> bool:
        """Take or renew the lease; False when another process has it."""
        lease = f"leader:housekeeping:{self._streams[0]}"
        with translated_errors():
            return await hold_lease(self._redis, lease=lease, holder=self._name, span=span)

    async def trim(self, *, only_changed: bool = False) -> None:
        """Drop entries older than the retention that every group has finished."""
        for stream in self._streams:
            names = await self._divisions.streams_of(stream)
            memory = await memory_of(self._redis, *names)
            is_large = memory >= self._high_water
            if only_changed and not is_large and memory == self._memory.get(stream):
                continue
            self._memory[stream] = memory
            for name in names:
                await remove_copies(self._redis, name)
                boundary = await self._boundary(stream, name, is_large=is_large)
                if boundary is not None:
                    with translated_errors():
                        await self._redis.xtrim(name, minid=boundary, approximate=True)

    async def _boundary(self, stream: str, name: str, *, is_large: bool) -> str | None:
        groups = await groups_info(self._redis, name)
        names = {group["name"].decode() for group in groups}
        if not names.issuperset(groups_of(stream)):
            return None  # a group that has yet to be made has finished nothing
        unfinished = {
            group["name"].decode(): await first_unfinished(self._redis, name, group)
            for group in groups
        }
        strangers = {group: unfinished.pop(group) for group in names.difference(groups_of(stream))}
        boundaries = [*unfinished.values()]
        # History makes way before new events are refused: the archive has it too.
        if not boundaries or not is_large:
            # The server's time: a host with a fast clock would trim what is still young.
            with translated_errors():
                now = await time_at(self._redis, stream=name)
            boundaries.append((now - milliseconds(self._retention), 0))
        await self._note_blockers(name, strangers, boundary=min(boundaries))
        return "{}-{}".format(*min([*boundaries, *strangers.values()]))

    async def _note_blockers(
        self, name: str, strangers: Mapping[str, EntryId], *, boundary: EntryId
    ) -> None:
        """Note which groups that no service reads for keep what would be dropped without them."""
        activity = f"trimming {name}"
        first = await first_entry(self._redis, name) if strangers else None
        blocking = [
            group
            for group, unfinished in strangers.items()
            if first is not None and unfinished <= first < boundary
        ]
        if blocking:
            reason = (
                f"{name} is not trimmed and fills up: {', '.join(sorted(blocking))} does not go on"
            )
            self._blocked[name] = reason
            self.outages.failed(activity, UnavailableError(reason))
        else:
            self._blocked.pop(name, None)
            self.outages.worked(activity)

    async def remove_idle_consumers(self) -> None:
        """Delete consumers that are long idle with nothing pending."""
        for stream in self._streams:
            for group in await groups_info(self._redis, stream):
                await self._remove_idle(stream, group["name"].decode())

    async def _remove_idle(self, stream: str, group: str) -> None:
        with translated_errors():
            for consumer in await self._redis.xinfo_consumers(stream, group):
                if consumer["pending"] == 0 and consumer["idle"] > milliseconds(CONSUMER_IDLE):
                    # It may have woken up and read since.
                    await delete_unless_pending(
                        self._redis, stream=stream, group=group, consumer=consumer["name"].decode()
                    )


@lua_script("""
local current = redis.call('GET', lease)
if current and current ~= holder then return 0 end
redis.call('SET', lease, holder, 'PX', span)
return 1
""")
def hold_lease(*, lease: Key, holder: str, span: timedelta) -> bool:
    """Take or renew a lease; false while another process holds it."""
    raise NotImplementedError
