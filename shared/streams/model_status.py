"""What summarizers say of the language model that they call, and what all have taken of it.

In Redis, for operators: nobody else knows a summarizer's limits, or whether its circuit is open.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import cast

import orjson
from redis.asyncio import Redis

from shared.events.envelope import now
from shared.lua import Key, lua_script
from shared.redis_connections import hash_tag, translated_errors
from shared.streams.model_pauses import budget_key, pause_key

TELL_EVERY = timedelta(seconds=5)
# One that was told by a process which died is forgotten after so long.
REMEMBERED = timedelta(seconds=20)
DAYS_REMEMBERED = timedelta(days=2)
MINUTE = timedelta(minutes=1)
# In braces: all of them are in one slot of a cluster.
INDEX = "{models}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """What a summarizer says: the most calls and tokens a minute, and a user's summaries a day.

    Of these None is no limit. `account` is who calls, as the budget's pauses name it.
    """

    consumer: str
    provider: str
    model: str
    account: str
    most_calls: int | None
    most_tokens: int | None
    most_summaries: int | None
    is_circuit_open: bool

    @property
    def name(self) -> str:
        """The name of the budget that all who call this model share."""
        return f"{self.provider}:{self.model}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUse:
    """What all summarizers together have taken of a model.

    `calls` and `tokens` are the last minute's, None where no budget counts them; `waiting` calls
    have their place in a minute to come. Today is the day in UTC.
    """

    statuses: Sequence[ModelStatus]
    calls: int | None
    tokens: int | None
    waiting: int
    calls_today: int
    tokens_today: int
    pause: timedelta | None


class ModelStatuses:
    """The statuses of all summarizers. Raises `UnavailableError`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def tell(self, status: ModelStatus, *, calls: int, tokens: int) -> None:
        """Say how a summarizer is, and what it has taken since it last did."""
        key = f"{INDEX}:{status.consumer}"
        today = _usage_key(self._redis, status.name, now().date())
        with translated_errors():
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.set(key, orjson.dumps(asdict(status)), ex=REMEMBERED)
                pipeline.sadd(INDEX, key)
                pipeline.expire(INDEX, DAYS_REMEMBERED)
                pipeline.hincrby(today, "calls", calls)
                pipeline.hincrby(today, "tokens", tokens)
                pipeline.expire(today, DAYS_REMEMBERED)
                await pipeline.execute()

    async def leave(self, consumer: str) -> None:
        """Say nothing more of a summarizer that ends."""
        key = f"{INDEX}:{consumer}"
        with translated_errors():
            await self._redis.delete(key)
            await self._redis.srem(INDEX, key)

    async def uses(self) -> list[ModelUse]:
        """Return what is said now, and what is taken, of each model."""
        with translated_errors():
            keys = sorted(cast("set[bytes]", await self._redis.smembers(INDEX)))
            values = cast("list[bytes | None]", await self._redis.mget(keys) if keys else [])
            gone = [key for key, value in zip(keys, values, strict=True) if not value]
            if gone:
                await self._redis.srem(INDEX, *gone)
        models: defaultdict[str, list[ModelStatus]] = defaultdict(list)
        for value in filter(None, values):
            status = ModelStatus(**orjson.loads(value))
            models[status.name].append(status)
        return [await self._use(name, models[name]) for name in sorted(models)]

    async def _use(self, name: str, statuses: Sequence[ModelStatus]) -> ModelUse:
        with translated_errors():
            calls, tokens, waiting, _ = await count_reserved(
                self._redis, reserved=budget_key(self._redis, name), window=MINUTE
            )
            today = _usage_key(self._redis, name, now().date())
            calls_today, tokens_today = await self._redis.hmget(today, ["calls", "tokens"])
            pauses = [
                await self._redis.pttl(pause_key(self._redis, name, account))
                for account in {status.account for status in statuses}
            ]
        pause = max(pauses)
        is_counted = any(one.most_calls or one.most_tokens for one in statuses)
        return ModelUse(
            statuses=statuses,
            calls=calls if is_counted else None,
            tokens=tokens if is_counted else None,
            waiting=waiting,
            calls_today=int(calls_today or 0),
            tokens_today=int(tokens_today or 0),
            pause=timedelta(milliseconds=pause) if pause > 0 else None,
        )


def _usage_key(redis: Redis, name: str, day: date) -> str:
    return f"usage:{hash_tag(redis, name)}:{day}"


@lua_script("""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function count(after, to)
  local found, tokens = redis.call('ZRANGEBYSCORE', reserved, '(' .. after, to), 0
  for _, one in ipairs(found) do tokens = tokens + tonumber(string.match(one, ':(%d+)$')) end
  return #found, tokens
end
local calls, tokens = count(now - window, now)
return {calls, tokens, count(now, '+inf')}
""")
def count_reserved(*, reserved: Key, window: timedelta) -> tuple[int, int, int, int]:
    """Return the calls and tokens of a budget's last window, and those of the time to come."""
    raise NotImplementedError
