"""What a Redis server says of itself."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import redis
from redis.asyncio import Redis

from shared.events.envelope import now
from shared.redis_connections import servers_of, translated_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisFacts:
    """What the server says of itself; what it keeps to itself is None.

    `ahead` is by how much the server's clock is ahead of this host's, and `uncertainty` half
    the time that asking took.
    """

    product: str
    version: str
    eviction: str
    append_only: bool
    fsync: str | None
    last_write_failed: bool
    memory: int
    memory_limit: int
    ahead: timedelta
    uncertainty: timedelta


async def redis_facts(client: Redis) -> dict[str, RedisFacts]:
    """Ask each server about itself; by its address where there are several."""
    with translated_errors():
        servers = await servers_of(client)
    return {address: await _facts(server) for address, server in servers.items()}


async def _facts(client: Redis) -> RedisFacts:
    with translated_errors():
        asked = now()
        seconds, microseconds = await client.time()
        answered = now()
        info: dict[str, Any] = await client.info()
        fsync = await _configured(client, "appendfsync")
    middle = asked + (answered - asked) / 2
    server_time = datetime.fromtimestamp(seconds, middle.tzinfo) + timedelta(
        microseconds=microseconds
    )
    return RedisFacts(
        product="Valkey" if "valkey_version" in info else "Redis",
        version=str(info.get("valkey_version", info["redis_version"])),
        eviction=str(info["maxmemory_policy"]),
        append_only=bool(info["aof_enabled"]),
        fsync=fsync,
        last_write_failed=info.get("aof_last_write_status", "ok") != "ok",
        memory=int(info["used_memory"]),
        memory_limit=int(info["maxmemory"]),
        ahead=server_time - middle,
        uncertainty=(answered - asked) / 2,
    )


async def _configured(client: Redis, name: str) -> str | None:
    try:
        values: dict[Any, Any] = await client.config_get(name)
    except redis.ResponseError:  # hosted servers keep CONFIG to themselves
        return None
    # redis-py gives names and values as text or as bytes, as the protocol has it.
    value = values.get(name, values.get(name.encode()))
    return value.decode() if isinstance(value, bytes) else value
