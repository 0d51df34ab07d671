"""What the streams, their groups, their consumers and their server are at."""

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import redis
from redis.asyncio import Redis

from shared.events.envelope import now
from shared.lua import Key, lua_script
from shared.redis_connections import translated_errors
from shared.streams.codec import entry_id
from shared.streams.consuming.group import groups_info
from shared.streams.consuming.retry import RetryQueue
from shared.streams.publisher import memory_of

# Up to so many are counted one by one: some milliseconds of the server's time.
COUNTED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerState:
    """One consumer: how long since it last asked for anything, and what it holds."""

    name: str
    idle: timedelta
    pending: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupState:
    """One group. `undelivered` is None when more than `COUNTED` and Redis cannot tell.

    `oldest_pending` is how long ago the oldest unacknowledged entry was added.
    """

    name: str
    last_delivered: str
    undelivered: int | None
    pending: int
    oldest_pending: timedelta | None
    retries: int
    consumers: tuple[ConsumerState, ...]

    @property
    def lag(self) -> int | None:
        """How many entries the group has yet to finish, retries aside; None when unknown."""
        return None if self.undelivered is None else self.undelivered + self.pending


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamState:
    """One stream; ids are None and figures 0 when it is empty or not there."""

    name: str
    exists: bool
    length: int
    memory: int
    first: str | None
    last: str | None
    added: int
    per_second: float | None
    groups: tuple[GroupState, ...]


class Inspector:
    """Looks without touching."""

    def __init__(self, client: Redis) -> None:
        self._redis = client

    async def sampled(
        self, streams: tuple[str, ...], *, over: timedelta | None
    ) -> list[StreamState]:
        """Return the streams' states, with their rates as seen over a span when one is given."""
        before = [await self.look(stream) for stream in streams] if over else []
        if over is None:
            return [await self.look(stream) for stream in streams]
        await asyncio.sleep(over.total_seconds())
        after = [await self.look(stream) for stream in streams]
        return [
            replace(new, per_second=max(0, new.added - old.added) / over.total_seconds())
            for old, new in zip(before, after, strict=True)
        ]

    async def look(self, stream: str) -> StreamState:
        """Return one stream's state."""
        with translated_errors():
            info = await self._stream_info(stream)
            now = int((await self._redis.time())[0])
            groups = [
                await self._group(stream, group, length=int(info.get("length", 0)), now=now)
                for group in await groups_info(self._redis, stream)
            ]
        return StreamState(
            name=stream,
            exists=bool(info),
            length=int(info.get("length", 0)),
            memory=await memory_of(self._redis, stream),
            first=_id_of(info.get("first-entry")),
            last=_id_of(info.get("last-entry")),
            added=int(info.get("entries-added", 0)),
            per_second=None,
            groups=tuple(groups),
        )

    async def _stream_info(self, stream: str) -> dict[str, Any]:
        try:
            return await self._redis.xinfo_stream(stream)
        except redis.ResponseError as error:
            if "no such key" in str(error):
                return {}
            raise

    async def _group(
        self, stream: str, info: dict[str, Any], *, length: int, now: int
    ) -> GroupState:
        name = info["name"].decode()
        last_delivered = info["last-delivered-id"].decode()
        oldest = None
        if info["pending"]:
            oldest = (await self._redis.xpending(stream, name))["min"]
        return GroupState(
            name=name,
            last_delivered=last_delivered,
            undelivered=await self._undelivered(
                stream, last_delivered, claimed=info.get("lag"), length=length
            ),
            pending=int(info["pending"]),
            oldest_pending=None if oldest is None else _age(oldest, now),
            retries=await RetryQueue(self._redis, stream=stream, group=name).waiting(),
            consumers=tuple(
                ConsumerState(
                    name=consumer["name"].decode(),
                    idle=timedelta(milliseconds=consumer["idle"]),
                    pending=consumer["pending"],
                )
                for consumer in await self._redis.xinfo_consumers(stream, name)
            ),
        )

    async def _undelivered(
        self, stream: str, last_delivered: str, *, claimed: int | None, length: int
    ) -> int | None:
        """Count what comes after the cursor; only past the bound believe what Redis claims.

        Its lag is null after a deletion ahead of the cursor, and too high after a trim.
        """
        counted = await count_entries(
            self._redis, stream=stream, start=f"({last_delivered}", most=COUNTED + 1
        )
        if counted <= COUNTED:
            return counted
        return None if claimed is None else min(int(claimed), length)


def _age(oldest: bytes, now: int) -> timedelta:
    return timedelta(seconds=max(0, now - entry_id(oldest)[0] / 1000))


def _id_of(entry: Any) -> str | None:
    return None if entry is None else entry[0].decode()


@lua_script("return #redis.call('XRANGE', stream, start, '+', 'COUNT', most)")
def count_entries(*, stream: Key, start: str, most: int) -> int:
    """Count entries from an id on, up to so many, without sending them."""
    raise NotImplementedError


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


async def redis_facts(client: Redis) -> RedisFacts:
    """Ask the server about itself."""
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
