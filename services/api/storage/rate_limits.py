"""Counting calls against a limit across all processes, without asking Redis about each call.

A process takes calls from the shared count in small leases and spends them by itself, so
that most calls cost a look into a dictionary. A lease that is not spent is lost with its
window: the limit is never exceeded, and reached a little early when many processes share it.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta

from redis.asyncio import Redis

from shared.domain.errors import UnavailableError
from shared.lua import Key, lua_script
from shared.redis_connections import translated_errors

# Callers whose leases a process keeps in memory; the rest ask Redis again.
MOST_KEYS = 20_000
LEASES_PER_WINDOW = 20


@dataclass(frozen=True, slots=True)
class Limit:
    """So many calls per span of time, counted from a caller's first call in it."""

    name: str
    calls: int
    span: timedelta


@dataclass(slots=True)
class Usage:
    """What a caller has left in this window: calls leased to this process, and calls shared.

    The window ends at `ends_at`, in monotonic seconds.
    """

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
    """The usage of one limit by its callers."""

    def __init__(self, redis: Redis, limit: Limit) -> None:
        self.limit = limit
        self._redis = redis
        self._lease_size = max(1, limit.calls // LEASES_PER_WINDOW)
        self._usages: OrderedDict[str, Usage] = OrderedDict()

    def spend_leased(self, caller: str) -> Usage | None:
        """Count a call against the lease; None when none is left and `spend` has to ask Redis."""
        usage = self._current(caller)
        if usage is None or usage.leased == 0:
            return None
        usage.leased -= 1
        return usage

    async def spend(self, caller: str) -> tuple[bool, Usage]:
        """Count a call; returns whether it is allowed, and the caller's usage after it.

        Without Redis every process counts for itself.
        """
        leased = self.spend_leased(caller)
        if leased is not None:
            return True, leased
        usage = self._current(caller)
        if usage is None or usage.shared:
            usage = await self._renew(caller)
        if usage.leased == 0:
            return False, usage
        usage.leased -= 1
        return True, usage

    async def give_back(self, caller: str) -> None:
        """Count a call no longer. Without Redis it is given back to this process."""
        try:
            with translated_errors():
                was_counted = await return_call(self._redis, counter=self._counter(caller))
        except UnavailableError:
            was_counted = False
        usage = self._current(caller)
        if usage is None:
            return
        if was_counted:
            usage.shared += 1
        else:
            usage.leased += 1

    async def reset(self, caller: str) -> None:
        """Give the caller a fresh window, unless Redis is down."""
        self._usages.pop(caller, None)
        try:
            with translated_errors():
                await self._redis.delete(self._counter(caller))
        except UnavailableError:
            return

    async def _renew(self, caller: str) -> Usage:
        try:
            fresh = await self._lease(caller)
        except UnavailableError:
            fresh = self._lease_unshared(caller)
        known = self._current(caller)
        if known is not None:
            # Calls that asked at the same time put their leases together.
            fresh.leased += known.leased
        self._usages[caller] = fresh
        self._usages.move_to_end(caller)
        if len(self._usages) > MOST_KEYS:
            self._usages.popitem(last=False)
        return fresh

    def _current(self, caller: str) -> Usage | None:
        known = self._usages.get(caller)
        return known if known is not None and time.monotonic() < known.ends_at else None

    async def _lease(self, caller: str) -> Usage:
        with translated_errors():
            granted, left, lifetime = await lease_calls(
                self._redis,
                counter=self._counter(caller),
                wanted=self._lease_size,
                most=self.limit.calls,
                span=self.limit.span,
            )
        return Usage(granted, max(0, left), time.monotonic() + max(lifetime, 1) / 1000)

    def _lease_unshared(self, caller: str) -> Usage:
        """Lease from what was left when Redis last answered, or from a window of one's own."""
        known = self._current(caller)
        if known is None:
            return Usage(self.limit.calls, 0, time.monotonic() + self.limit.span.total_seconds())
        granted = min(self._lease_size, known.shared)
        return Usage(granted, known.shared - granted, known.ends_at)

    def _counter(self, caller: str) -> str:
        return f"limit:{self.limit.name}:{caller}"


@lua_script("""
local used = tonumber(redis.call('GET', counter) or '0')
local granted = math.max(0, math.min(wanted, most - used))
if granted > 0 then
  used = redis.call('INCRBY', counter, granted)
  if used == granted then redis.call('PEXPIRE', counter, span) end
end
return {granted, most - used, redis.call('PTTL', counter)}
""")
def lease_calls(*, counter: Key, wanted: int, most: int, span: timedelta) -> tuple[int, int, int]:
    """Take up to `wanted` of the `most` calls of a window, which lasts `span` from its first.

    Returns how many were granted, how many are left, and the milliseconds the window still lasts.
    """
    raise NotImplementedError


@lua_script("""
if tonumber(redis.call('GET', counter) or '0') < 1 then return 0 end
redis.call('DECR', counter)
return 1
""")
def return_call(*, counter: Key) -> int:
    """Take one call back from a window; returns 0 when the window is over, else 1."""
    raise NotImplementedError
