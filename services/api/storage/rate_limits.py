"""Counting calls against a limit across all processes, without asking Redis about each call.

A process takes calls from the shared count in small leases and spends them by itself, so
that most calls cost a look into a dictionary. A lease that is not spent is lost with its
window: the limit is never exceeded, and reached a little early when many processes share it.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from redis.asyncio import Redis

from shared.domain.errors import UnavailableError
from shared.streams.connection import translated_errors
from shared.streams.consuming.group import milliseconds

# Callers whose leases a process keeps in mind; the rest ask Redis again.
MOST_KEYS = 20_000
LEASES_PER_WINDOW = 20

_LEASE = """
local used = tonumber(redis.call('GET', KEYS[1]) or '0')
local granted = math.max(0, math.min(tonumber(ARGV[1]), tonumber(ARGV[2]) - used))
if granted > 0 then
  used = redis.call('INCRBY', KEYS[1], granted)
  if used == granted then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
end
return {granted, tonumber(ARGV[2]) - used, redis.call('PTTL', KEYS[1])}
"""


@dataclass(frozen=True, slots=True)
class Limit:
    """So many calls per span of time, counted from a caller's first call in it."""

    name: str
    calls: int
    span: timedelta


@dataclass(slots=True)
class Standing:
    """How a caller stands: calls left in this window, and when (monotonic seconds) it ends."""

    leased: int
    shared: int
    ends_at: float

    @property
    def remaining(self) -> int:
        """How many more calls are allowed in this window, as far as this process knows."""
        return self.leased + self.shared

    def seconds_left(self) -> int:
        """Return how long the window still lasts, in whole seconds, rounded up."""
        return max(1, int(self.ends_at - time.monotonic() + 0.999))


class RateLimits:
    """The standings of one limit's callers."""

    def __init__(self, redis: Redis, limit: Limit) -> None:
        self.limit = limit
        self._redis = redis
        self._lease = redis.register_script(_LEASE)
        self._size = max(1, limit.calls // LEASES_PER_WINDOW)
        self._standings: OrderedDict[str, Standing] = OrderedDict()

    def spend(self, caller: str) -> Standing | None:
        """Count a call against the lease; None when there is none and `admit` has to ask."""
        standing = self._current(caller)
        if standing is None or standing.leased == 0:
            return None
        standing.leased -= 1
        return standing

    async def admit(self, caller: str) -> tuple[bool, Standing]:
        """Count a call; returns whether it is allowed, and how the caller stands after it.

        Without Redis every process counts for itself.
        """
        spent = self.spend(caller)
        if spent is not None:
            return True, spent
        standing = self._current(caller)
        if standing is None or standing.shared:
            standing = await self._renew(caller)
        if standing.leased == 0:
            return False, standing
        standing.leased -= 1
        return True, standing

    async def forget(self, caller: str) -> None:
        """Give the caller a fresh window."""
        self._standings.pop(caller, None)
        try:
            with translated_errors():
                await self._redis.delete(self._key(caller))
        except UnavailableError:
            return

    async def _renew(self, caller: str) -> Standing:
        try:
            fresh = await self._ask(caller)
        except UnavailableError:
            fresh = Standing(0, 0, time.monotonic() + self.limit.span.total_seconds())
            if self._current(caller) is None:
                fresh.leased = self.limit.calls
        known = self._current(caller)
        if known is not None:
            # Calls that asked at the same time put their leases together.
            fresh.leased += known.leased
        self._standings[caller] = fresh
        self._standings.move_to_end(caller)
        if len(self._standings) > MOST_KEYS:
            self._standings.popitem(last=False)
        return fresh

    def _current(self, caller: str) -> Standing | None:
        known = self._standings.get(caller)
        return known if known is not None and time.monotonic() < known.ends_at else None

    async def _ask(self, caller: str) -> Standing:
        with translated_errors():
            answer = await self._lease(
                keys=[self._key(caller)],
                args=[self._size, self.limit.calls, milliseconds(self.limit.span)],
            )
        granted, left, lifetime = cast("tuple[int, int, int]", tuple(answer))
        return Standing(granted, max(0, left), time.monotonic() + max(lifetime, 1) / 1000)

    def _key(self, caller: str) -> str:
        return f"limit:{self.limit.name}:{caller}"
