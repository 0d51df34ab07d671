"""What all replicas together may ask of a provider per minute, and a user of all of them per day.

Both are kept in the streams' Redis, the minutes by its own clock.
"""

import secrets
from datetime import date, timedelta
from uuid import UUID

from redis.asyncio import Redis

from services.summarizer.upstream import Reservation
from shared.lua import Key, load_lua, lua_script
from shared.observability.metrics import gauge
from shared.redis_connections import translated_errors
from shared.streams.model_pauses import budget_key, pause_key
from shared.streams.model_status import count_reserved

# A second more than the provider's minute: calls do not take equally long to get there.
WINDOW = timedelta(seconds=61)
BACKGROUND_SHARE = 0.5

QUOTA_KEPT = timedelta(days=2)


@lua_script(load_lua(__file__, "reserve.lua"))
def _reserve(
    *,
    reserved: Key,
    paused: Key,
    id: str,  # noqa: A002 (Lua's name)
    tokens: int,
    most_calls: int,
    most_tokens: int,
    window: timedelta,
    within: timedelta,
) -> tuple[int, int, int]:
    """Reserve a call; returns whether it may be made in time, the wait in ms, and its tokens."""
    raise NotImplementedError


@lua_script("""
local at = redis.call('ZSCORE', reserved, id .. ':' .. estimate)
if at then
  redis.call('ZREM', reserved, id .. ':' .. estimate)
  redis.call('ZADD', reserved, at, id .. ':' .. tokens)
end
""")
def _settle(*, reserved: Key, id: str, estimate: str, tokens: str) -> None:  # noqa: A002 (Lua's name)
    """Replace the tokens of a reservation that has not passed out of the window yet."""
    raise NotImplementedError


@lua_script("""
if redis.call('PTTL', paused) < span then redis.call('SET', paused, '', 'PX', span) end
""")
def _pause(*, paused: Key, span: timedelta) -> None:
    """Pause for a span, or for longer if that was asked for before."""
    raise NotImplementedError


@lua_script("""
if redis.call('SISMEMBER', requests, request) == 1 then return 1 end
if redis.call('SCARD', requests) >= most then return 0 end
redis.call('SADD', requests, request)
redis.call('PEXPIRE', requests, kept)
return 1
""")
def _take(*, requests: Key, request: UUID, most: int, kept: timedelta) -> bool:
    """Count a request unless it is counted; false when there are as many as there may be."""
    raise NotImplementedError


_RATIO = gauge(
    "leads_model_budget_ratio",
    "How much of a minute's calls and tokens is taken, all replicas together; above 1 they wait.",
    ["budget"],
)


class MinuteBudget:
    """Calls and tokens per minute; 0 is no limit. A pause is the account's that was told to.

    First come, first served: each call gets the first time after the last reserved one that keeps
    every window within the limits.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        name: str,
        account: str,
        calls: int,
        tokens: int,
        window: timedelta = WINDOW,
    ) -> None:
        self._redis = redis
        self._reserved = budget_key(redis, name)
        self._paused = pause_key(redis, name, account)
        self._limits = (calls, tokens)
        self._window = window

    async def reserve(
        self, *, tokens: int, within: timedelta, background: bool
    ) -> Reservation | timedelta:
        """Return a reservation, or after how long there will be one if that is not `within`.

        Background calls get one only for now, and only while half of the budget is free.
        """
        most_calls, most_tokens = self._limits
        if background:
            most_calls, most_tokens = _background_share(most_calls), _background_share(most_tokens)
            within = timedelta(0)
        reservation_id = secrets.token_hex(8)
        with translated_errors():
            granted, wait, counted = await _reserve(
                self._redis,
                reserved=self._reserved,
                paused=self._paused,
                id=reservation_id,
                tokens=tokens,
                most_calls=most_calls,
                most_tokens=most_tokens,
                window=self._window,
                within=within,
            )
        span = timedelta(milliseconds=wait)
        return Reservation(reservation_id, span, counted) if granted else span

    async def settle(self, reservation: Reservation, *, tokens: int) -> None:
        """Replace the estimate with what the call took."""
        with translated_errors():
            await _settle(
                self._redis,
                reserved=self._reserved,
                id=reservation.id,
                estimate=str(reservation.tokens),
                tokens=str(tokens),
            )

    async def measure(self) -> None:
        """Export how much is taken now: nothing while that cannot be read."""
        _RATIO.clear()
        with translated_errors():
            calls, tokens, *to_come = await count_reserved(
                self._redis, reserved=self._reserved, window=self._window
            )
        taken = (calls + to_come[0], tokens + to_come[1])
        for name, used, most in zip(("calls", "tokens"), taken, self._limits, strict=True):
            if most:
                _RATIO.labels(name).set(used / most)

    async def pause(self, span: timedelta) -> None:
        """Give no replica a reservation before that long."""
        with translated_errors():
            await _pause(
                self._redis, paused=self._paused, span=max(timedelta(milliseconds=1), span)
            )


class DailyQuota:
    """Requests that a user may make per day; 0 is no limit.

    Counted by their ids, so that one that is delivered again does not count again.
    """

    def __init__(self, redis: Redis, *, name: str, most: int) -> None:
        self._redis = redis
        self._name = name
        self._most = most

    async def take(self, user: str, request: UUID, *, day: date) -> bool:
        """Count a request; False when the user has had the day's share."""
        if self._most == 0:
            return True
        with translated_errors():
            return await _take(
                self._redis,
                requests=self._key(user, day),
                request=request,
                most=self._most,
                kept=QUOTA_KEPT,
            )

    async def give_back(self, user: str, request: UUID, *, day: date) -> None:
        """Do not count a request after all."""
        if self._most:
            with translated_errors():
                await self._redis.srem(self._key(user, day), str(request))

    def _key(self, user: str, day: date) -> str:
        return f"quota:{self._name}:{day}:{user}"


def _background_share(most: int) -> int:
    return max(1, int(most * BACKGROUND_SHARE)) if most else 0
