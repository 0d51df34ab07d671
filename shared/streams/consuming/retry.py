"""Retries wait outside the stream, in a sorted set by due time, and then return to it."""

import random
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import cast
from uuid import UUID

from redis.asyncio import Redis
from redis.typing import EncodableT, FieldT

from shared.events.dead_letter import DeadLetter
from shared.streams.codec import flatten, readdressed
from shared.streams.connection import translated_errors
from shared.streams.consuming.group import milliseconds
from shared.streams.entries import Entry

# Giving parked events another chance.


async def add_letters(redis: Redis, letters: Sequence[DeadLetter]) -> None:
    """Put parked entries back into their streams, each for its group's first attempt.

    Raises `UnavailableError`; some may have been added then, and adding them again is safe.
    """
    with translated_errors():
        async with redis.pipeline(transaction=False) as pipeline:
            for letter in letters:
                fields = {name.encode(): value.encode() for name, value in letter.fields.items()}
                pipeline.xadd(letter.stream, readdressed(fields, group=letter.group))
            await pipeline.execute()


FIRST_DELAY = timedelta(seconds=1)
LONGEST_DELAY = timedelta(minutes=5)

# Due times are the server's, so that consumers with different clocks agree.
_SCHEDULE = """
local time = redis.call('TIME')
local due = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1])
redis.call('ZADD', KEYS[1], due, ARGV[2])
redis.call('XACK', KEYS[2], ARGV[3], ARGV[4])
"""
_MOVE_DUE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
for _, member in ipairs(due) do
  redis.call('XADD', KEYS[2], '*', unpack(cjson.decode(member)))
  redis.call('ZREM', KEYS[1], member)
end
return #due
"""


class RetryQueue:
    """The delayed retries of one group; raises `UnavailableError` when Redis is down."""

    def __init__(self, redis: Redis, *, stream: str, group: str) -> None:
        self.key = f"retry:{stream}:{group}"
        self._redis = redis
        self._stream = stream
        self._group = group
        self._schedule = redis.register_script(_SCHEDULE)
        self._move_due = redis.register_script(_MOVE_DUE)

    async def schedule(self, entry: Entry, *, attempt: int, delay: timedelta) -> None:
        """Acknowledge an entry and bring it back after `delay` as that attempt, atomically."""
        fields: dict[FieldT, EncodableT] = {
            name.decode(): value.decode() for name, value in entry.fields.items()
        }
        member = flatten(fields | {"attempt": str(attempt), "onlygroup": self._group})
        with translated_errors():
            await self._schedule(
                keys=[self.key, self._stream],
                args=[milliseconds(delay), member, self._group, entry.id],
            )

    async def move_due(self, *, most: int = 100) -> int:
        """Put entries whose time has come back into the stream; returns how many."""
        with translated_errors():
            return int(await self._move_due(keys=[self.key, self._stream], args=[most]))

    async def hasten(self, lead_id: UUID) -> None:
        """Make what waits of one lead due now."""
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


def delay_before(attempt: int) -> timedelta:
    """Return how long to wait before this attempt (2 is the first retry), with jitter."""
    ceiling = min(LONGEST_DELAY, FIRST_DELAY * 4.0 ** (attempt - 2))
    return ceiling * random.uniform(0.5, 1)  # noqa: S311 (jitter, not a secret)
