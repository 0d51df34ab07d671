"""Whether replicas wait to call a language model, and for how long its provider said so."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from redis.asyncio import Redis

from shared.lua import Key, lua_script
from shared.redis_connections import hash_tag, servers_of, translated_errors

_PREFIX, _PAUSED = "budget:", ":paused:"


def budget_key(redis: Redis, name: str) -> str:
    """Return the key of the calls that are reserved in a budget."""
    return f"{_PREFIX}{hash_tag(redis, name)}"


def pause_key(redis: Redis, name: str, account: str) -> str:
    """Return the key of a budget's pause, which is there while the pause lasts."""
    return f"{budget_key(redis, name)}{_PAUSED}{account}"


@dataclass(frozen=True, slots=True)
class ModelPause:
    """A provider and model, and how long it is not to be called."""

    name: str
    left: timedelta


class ModelPauses:
    """The pauses of all budgets, for those who know that the provider has changed its mind."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def lift(self) -> list[ModelPause]:
        """Have the model called again; returns what was lifted."""
        lifted: list[ModelPause] = []
        with translated_errors():
            async for key in self._keys():
                left = await self._redis.pttl(key)
                if await self._redis.delete(key):
                    lifted.append(_pause(key.decode(), left))
        return lifted

    async def are_calls_waiting(self) -> bool:
        """Return whether calls wait: for the end of a pause, or for the next minute's budget.

        Walks through all keys.
        """
        with translated_errors():
            async for key in self._keys(_PREFIX + "*"):
                is_pause = _PAUSED.encode() in key
                if is_pause or await is_reserved_ahead(self._redis, reserved=key):
                    return True
        return False

    async def _keys(self, pattern: str = f"{_PREFIX}*{_PAUSED}*") -> AsyncIterator[bytes]:
        for server in (await servers_of(self._redis)).values():
            found = cast("Any", server).scan_iter(match=pattern, count=1_000)
            async for key in cast("AsyncIterator[bytes]", found):
                yield key


@lua_script("""
local time = redis.call('TIME')
local last = redis.call('ZRANGE', reserved, -1, -1, 'WITHSCORES')
return last[2] and tonumber(last[2]) > time[1] * 1000 + math.floor(time[2] / 1000)
""")
def is_reserved_ahead(*, reserved: Key) -> bool:
    """Return whether the last call that was reserved in a budget is yet to be made."""
    raise NotImplementedError


def _pause(key: str, left: int) -> ModelPause:
    name = key.removeprefix(_PREFIX).rpartition(_PAUSED)[0].strip("{}")
    return ModelPause(name, timedelta(milliseconds=max(left, 0)))
