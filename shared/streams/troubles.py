"""What consumers wait for, in their own words: kept in Redis for operators and for the API.

Nobody else knows why events wait: a consumer's database may refuse it alone.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import cast

import orjson
from redis.asyncio import Redis

from shared.domain.errors import UnavailableError
from shared.redis_connections import translated_errors

# Told anew every second: one that was told by a process which died is forgotten after so long.
TELL_EVERY = timedelta(seconds=1)
REMEMBERED = timedelta(seconds=10)
# In braces: all of them are in one slot of a cluster.
INDEX = "{troubles}"
INDEX_REMEMBERED = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What a process has to say of its work on a stream, or of itself.

    `waits` when it does nothing until that is mended.
    """

    consumer: str
    stream: str
    reason: str
    waits: bool


class Troubles:
    """The troubles of all consumers. Raises `UnavailableError`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._told: set[str] = set()

    async def tell(
        self, consumer: str, stream: str, waits: Collection[str], warns: Collection[str] = ()
    ) -> None:
        """Replace what a consumer of a stream has told; nothing when all is well again."""
        key = f"{INDEX}:{stream}:{consumer}"
        reasons = [*((reason, True) for reason in waits), *((reason, False) for reason in warns)]
        troubles = [
            Trouble(consumer=consumer, stream=stream, reason=reason, waits=is_waiting)
            for reason, is_waiting in reasons
        ]
        if not troubles and key not in self._told:  # nearly always
            return
        self._told.add(key)
        with translated_errors():
            async with self._redis.pipeline(transaction=False) as pipeline:
                if troubles:
                    value = orjson.dumps([asdict(one) for one in troubles])
                    pipeline.set(key, value, ex=REMEMBERED)
                    pipeline.sadd(INDEX, key)
                    pipeline.expire(INDEX, INDEX_REMEMBERED)
                else:
                    pipeline.delete(key)
                    pipeline.srem(INDEX, key)
                await pipeline.execute()
        if not troubles:
            self._told.discard(key)

    async def check(self, *, besides: str) -> None:
        """Raise `UnavailableError` with what consumers tell, besides those of one kind, if any."""
        if troubles := [one for one in await self.told() if one.stream != besides]:
            raise UnavailableError("; ".join(f"{one.consumer}: {one.reason}" for one in troubles))

    async def told(self) -> Sequence[Trouble]:
        """Return what consumers tell now."""
        with translated_errors():
            keys = cast("set[bytes]", await self._redis.smembers(INDEX))
            values = await self._redis.mget(sorted(keys)) if keys else []
        return [Trouble(**one) for value in values if value for one in orjson.loads(value)]
