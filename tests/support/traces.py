"""A person who can be found wherever anything of them is kept."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

from redis.asyncio import Redis

from shared.storage.pool import Database
from tests.support.builders import lead_fields

CANARY = "canary"
TABLES = ("lead", "event", "summary", "dead_letter", "tombstone", "sync_run", "admin_action")


def someone(**changes: Any) -> Any:
    """Return the fields of a lead that can be found wherever they are kept."""
    return lead_fields(
        first_name=f"{CANARY}-name", email=f"{CANARY}@example.com", city=f"{CANARY}-city", **changes
    )


async def kept_in_postgres(database: Database) -> list[str]:
    """Return the tables that hold the canary."""
    query = "SELECT 1 FROM leads.{} AS kept WHERE kept::text LIKE $1"
    async with database.connection() as connection:
        return [
            table
            for table in TABLES
            if await connection.fetchrow(query.format(table), f"%{CANARY}%")
        ]


async def kept_in_redis(redis: Redis) -> list[str]:
    """Return the keys whose value holds the canary."""
    readers: dict[str, Callable[[bytes], Awaitable[Any]]] = {
        "string": redis.get,
        "stream": redis.xrange,
        "hash": lambda key: cast("Awaitable[Any]", redis.hgetall(key)),
        "zset": lambda key: redis.zrange(key, 0, -1),
    }
    keys = cast("list[bytes]", await redis.keys("*"))
    kinds = [cast("bytes", await redis.type(key)).decode() for key in keys]
    values = [await readers[kind](key) for key, kind in zip(keys, kinds, strict=True)]
    return [key.decode() for key, value in zip(keys, values, strict=True) if CANARY in str(value)]
