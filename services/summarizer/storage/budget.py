"""What all replicas together may ask of a provider per minute, and a user of all of them per day.

Both are kept in the streams' Redis, the minutes by its own clock.
"""

import secrets
from dataclasses import dataclass
from datetime import date, timedelta
from uuid import UUID

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from shared.streams.connection import translated_errors
from shared.streams.consuming.group import milliseconds

# A second more than the provider's minute: calls do not take equally long to get there.
WINDOW = timedelta(seconds=61)
BACKGROUND_SHARE = 0.5

QUOTA_KEPT = timedelta(days=2)

# A sorted set of calls by the time from which each may be made, some of it yet to come: each
# call gets the first place after the last one that keeps every window within the limits, so
# nobody asks twice and the first come are the first served.
_RESERVE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local id, tokens, window = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[5])
local most_calls, most_tokens = tonumber(ARGV[3]), tonumber(ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
local at = now + math.max(0, redis.call('PTTL', KEYS[2]))
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
if last[2] then at = math.max(at, tonumber(last[2])) end
if most_calls > 0 then
  local full = redis.call('ZRANGE', KEYS[1], -most_calls, -most_calls, 'WITHSCORES')
  if full[2] then at = math.max(at, tonumber(full[2]) + window) end
end
if most_tokens > 0 then
  tokens = math.min(tokens, most_tokens)
  local room = most_tokens - tokens
  local taken = redis.call('ZREVRANGE', KEYS[1], 0, -1, 'WITHSCORES')
  for i = 1, #taken, 2 do
    room = room - tonumber(string.match(taken[i], ':(%d+)$'))
    if room < 0 then
      at = math.max(at, tonumber(taken[i + 1]) + window)
      break
    end
  end
end
if at - now > tonumber(ARGV[6]) then return {0, at - now} end
redis.call('ZADD', KEYS[1], at, id .. ':' .. tokens)
redis.call('PEXPIRE', KEYS[1], at - now + window)
return {1, at - now, tokens}
"""
_SETTLE = """
local at = redis.call('ZSCORE', KEYS[1], ARGV[1] .. ':' .. ARGV[2])
if at then
  redis.call('ZREM', KEYS[1], ARGV[1] .. ':' .. ARGV[2])
  redis.call('ZADD', KEYS[1], at, ARGV[1] .. ':' .. ARGV[3])
end
"""
_PAUSE = """
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then
  redis.call('SET', KEYS[1], '', 'PX', ARGV[1])
end
"""
_TAKE = """
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 1 then return 1 end
if redis.call('SCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""


@dataclass(frozen=True, slots=True)
class Place:
    """A call's place: it may be made after `wait`."""

    wait: timedelta
    _key: str
    _id: str
    _tokens: int
    _settle: AsyncScript

    async def settle(self, tokens: int) -> None:
        """Replace the estimate with what the call took."""
        with translated_errors():
            await self._settle(keys=[self._key], args=[self._id, self._tokens, tokens])


class MinuteBudget:
    """Calls and tokens per minute; 0 is no limit. Raises `UnavailableError` without Redis."""

    def __init__(
        self,
        redis: Redis,
        *,
        name: str,
        calls: int,
        tokens: int,
        window: timedelta = WINDOW,
    ) -> None:
        self._calls = f"budget:{name}"
        self._paused = f"budget:{name}:paused"
        self._limits = [calls, tokens]
        self._window = window
        self._reserve = redis.register_script(_RESERVE)
        self._settle = redis.register_script(_SETTLE)
        self._pause = redis.register_script(_PAUSE)

    async def reserve(
        self, *, tokens: int, within: timedelta, background: bool
    ) -> Place | timedelta:
        """Return a place, or after how long there will be one if that is not within the time.

        Background calls get a place only now, and only while half of the budget is free.
        """
        limits: list[int] = self._limits
        if background:
            limits = [max(1, int(most * BACKGROUND_SHARE)) if most else 0 for most in limits]
            within = timedelta(0)
        place_id = secrets.token_hex(8)
        with translated_errors():
            granted, wait, *taken = await self._reserve(
                keys=[self._calls, self._paused],
                args=[place_id, tokens, *limits, milliseconds(self._window), milliseconds(within)],
            )
        span = timedelta(milliseconds=wait)
        if not granted:
            return span
        return Place(span, self._calls, place_id, taken[0], self._settle)

    async def pause(self, span: timedelta) -> None:
        """Give nobody a place for that long."""
        with translated_errors():
            await self._pause(keys=[self._paused], args=[max(1, milliseconds(span))])


class DailyQuota:
    """Requests that a user may make per day; 0 is no limit. Raises `UnavailableError`.

    Counted by their ids, so that one that is delivered again does not count again.
    """

    def __init__(self, redis: Redis, *, name: str, most: int) -> None:
        self._redis = redis
        self._name = name
        self._most = most
        self._take = redis.register_script(_TAKE)

    async def take(self, user: str, request: UUID, *, day: date) -> bool:
        """Count a request; False when the user has had the day's share."""
        if self._most == 0:
            return True
        keys = [self._key(user, day)]
        with translated_errors():
            return bool(
                await self._take(
                    keys=keys, args=[str(request), self._most, milliseconds(QUOTA_KEPT)]
                )
            )

    async def give_back(self, user: str, request: UUID, *, day: date) -> None:
        """Do not count a request after all."""
        if self._most:
            with translated_errors():
                await self._redis.srem(self._key(user, day), str(request))

    def _key(self, user: str, day: date) -> str:
        return f"quota:{self._name}:{day}:{user}"
