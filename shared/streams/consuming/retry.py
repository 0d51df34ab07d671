"""Retries wait outside the stream, in a sorted set by due time, and then return to it."""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import cast
from uuid import UUID

from redis.asyncio import Redis
from redis.typing import EncodableT, FieldT

from shared.background import wait_for_event
from shared.lua import Key, lua_script
from shared.observability.metrics import STARTED, until_next
from shared.redis_connections import hash_tag, translated_errors
from shared.streams.codec import Entry, flatten

FIRST_DELAY = timedelta(seconds=1)

# How long retries may be due that this process knows nothing of: of one that has died since.
LOOK_EVERY = timedelta(seconds=5)
LONGEST_DELAY = timedelta(minutes=5)


class RetryQueue:
    """The delayed retries of one group."""

    def __init__(self, redis: Redis, *, stream: str, group: str) -> None:
        self.key = f"retry:{hash_tag(redis, stream)}:{group}"
        self._redis = redis
        self._stream = stream
        self._group = group
        self._look_at = -math.inf
        self._is_sooner = asyncio.Event()

    async def schedule(self, entry: Entry, *, attempt: int, delay: timedelta) -> None:
        """Acknowledge an entry and bring it back after `delay` as that attempt, atomically."""
        fields: dict[FieldT, EncodableT] = {
            name.decode(): value.decode() for name, value in entry.fields.items()
        }
        try:
            with translated_errors():
                await schedule_retry(
                    self._redis,
                    queue=self.key,
                    stream=self._stream,
                    delay=delay,
                    member=flatten(fields | {"attempt": str(attempt), "onlygroup": self._group}),
                    group=self._group,
                    entry_id=entry.id,
                )
        finally:  # it may be there though no answer came
            self._look_at = min(self._look_at, time.monotonic() + delay.total_seconds())
            self._is_sooner.set()

    async def until_due(self) -> None:
        """Wait until something may be due, as `move_due` knows."""
        while (pause := self._look_at - time.monotonic()) > 0:
            self._is_sooner.clear()
            await wait_for_event(self._is_sooner, within=timedelta(seconds=pause))

    async def move_due(self, *, most: int = 100) -> int:
        """Put entries whose time has come back into the stream; returns how many.

        Redis is asked when something may be due: by what this process has scheduled, by when the
        next one was due at the last look, and every few seconds.
        """
        if time.monotonic() < self._look_at:
            return 0
        before = self._look_at
        with translated_errors():
            moved, wait = await move_due_retries(
                self._redis, queue=self.key, stream=self._stream, most=most
            )
        # What was scheduled while this was asked may be due earlier.
        if self._look_at == before:
            now = time.monotonic()
            # When others wake the process, too: see `shared.background.repeat`.
            rest = until_next(LOOK_EVERY, now=now - STARTED).total_seconds()
            self._look_at = now + (rest if wait is None else min(rest, wait / 1000))
        return moved

    async def make_due(self, lead_id: UUID) -> None:
        """Have the retries of one lead's events return to the stream now."""
        pattern = f'*"subject","{lead_id}"*'  # as `flatten` has it
        with translated_errors():
            waiting = cast(
                "AsyncIterator[tuple[bytes, float]]",
                self._redis.zscan_iter(self.key, match=pattern),
            )
            async for member, _ in waiting:
                await self._redis.zadd(self.key, {member: 0}, xx=True)

    async def waiting(self) -> int:
        """Return how many entries wait for their time."""
        with translated_errors():
            return int(await self._redis.zcard(self.key))

    async def members(self) -> list[bytes]:
        """Return what waits for its time, first what is due first, as `flatten` has it."""
        with translated_errors():
            return cast("list[bytes]", await self._redis.zrange(self.key, 0, -1))

    async def remove(self, members: Sequence[bytes]) -> None:
        """Forget what waited: it is elsewhere by now."""
        with translated_errors():
            await self._redis.zrem(self.key, *members)


# Due times are the server's, so that consumers with different clocks agree.
@lua_script("""
local time = redis.call('TIME')
local due = time[1] * 1000 + math.floor(time[2] / 1000) + delay
redis.call('ZADD', queue, due, member)
redis.call('XACK', stream, group, entry_id)
""")
def schedule_retry(
    *, queue: Key, stream: Key, delay: timedelta, member: bytes, group: str, entry_id: str
) -> None:
    """Acknowledge an entry and queue `member`, its fields as a JSON array, in its place."""
    raise NotImplementedError


@lua_script("""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', queue, '-inf', now, 'LIMIT', 0, most)
for _, member in ipairs(due) do
  redis.call('XADD', stream, '*', unpack(cjson.decode(member)))
  redis.call('ZREM', queue, member)
end
local next = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')[2]
return {#due, next and math.max(0, next - now) or false}
""")
def move_due_retries(*, queue: Key, stream: Key, most: int) -> tuple[int, int | None]:
    """Move entries that are due from the queue to the stream.

    Returns how many, and in how many milliseconds the next one is due; None when there is none.
    """
    raise NotImplementedError


def delay_before(attempt: int) -> timedelta:
    """Return how long to wait before this attempt (2 is the first retry), with jitter."""
    ceiling = min(LONGEST_DELAY, FIRST_DELAY * 4.0 ** (attempt - 2))
    return ceiling * random.uniform(0.5, 1)  # noqa: S311 (jitter, not a secret)
