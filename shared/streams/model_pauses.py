"""How long no replica calls a language model, since its provider said so."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from redis.asyncio import Redis

from shared.redis_connections import hash_tag, servers_of, translated_errors

_PREFIX, _PAUSED = "budget:", ":paused:"


def pause_key(redis: Redis, name: str, account: str) -> str:
    """Return the key of a budget's pause, which is there while the pause lasts."""
    return f"{_PREFIX}{hash_tag(redis, name)}{_PAUSED}{account}"


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

    async def current(self) -> list[ModelPause]:
        """Return the pauses there are, after a walk through all keys."""
        with translated_errors():
            return [_pause(key.decode(), await self._redis.pttl(key)) async for key in self._keys()]

    async def _keys(self) -> AsyncIterator[bytes]:
        for server in (await servers_of(self._redis)).values():
            pattern = f"{_PREFIX}*{_PAUSED}*"
            found = cast("Any", server).scan_iter(match=pattern, count=1_000)
            async for key in cast("AsyncIterator[bytes]", found):
                yield key


def _pause(key: str, left: int) -> ModelPause:
    name = key.removeprefix(_PREFIX).rpartition(_PAUSED)[0].strip("{}")
    return ModelPause(name, timedelta(milliseconds=max(left, 0)))
