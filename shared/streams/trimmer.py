"""Forgetting old entries: never one that a group has yet to finish, whatever its age."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import redis
from redis.asyncio import Redis

from shared.events.catalog import groups_of
from shared.streams.capacity import memory_of
from shared.streams.connection import translated_errors
from shared.streams.group import milliseconds

# A consumer idle for longer has ended without saying so.
CONSUMER_IDLE = timedelta(hours=1)


class Trimmer:
    """The leader's chore for some streams; raises `UnavailableError` when Redis is down."""

    def __init__(
        self, client: Redis, *, streams: Sequence[str], retention: timedelta, max_bytes: int
    ) -> None:
        self._redis = client
        self._streams = streams
        self._retention = retention
        self._high_water = max_bytes // 2

    async def trim(self) -> None:
        """Drop entries older than the retention that every group has finished."""
        with translated_errors():
            for stream in self._streams:
                boundary = await self._boundary(stream)
                if boundary is not None:
                    await self._redis.xtrim(stream, minid=boundary, approximate=True)

    async def remove_idle_consumers(self) -> None:
        """Delete consumers that are long idle with nothing pending."""
        with translated_errors():
            for stream in self._streams:
                for group in await self._groups(stream):
                    await self._remove_idle(stream, group["name"].decode())

    async def _remove_idle(self, stream: str, group: str) -> None:
        for consumer in await self._redis.xinfo_consumers(stream, group):
            if consumer["pending"] == 0 and consumer["idle"] > milliseconds(CONSUMER_IDLE):
                await self._redis.xgroup_delconsumer(stream, group, consumer["name"])

    async def _boundary(self, stream: str) -> str | None:
        groups = await self._groups(stream)
        names = {group["name"].decode() for group in groups}
        if not names.issuperset(groups_of(stream)):
            return None  # a group that has yet to be made has finished nothing
        unfinished = [await self._finished(stream, group) for group in groups]
        # History makes way before new events are refused: the archive has it too.
        if not unfinished or await memory_of(self._redis, stream) < self._high_water:
            # The server's clock: a host whose clock is ahead would trim what is still young.
            seconds, microseconds = await self._redis.time()
            present = seconds * 1000 + microseconds // 1000
            unfinished.append((present - milliseconds(self._retention), 0))
        return "{}-{}".format(*min(unfinished))

    async def _finished(self, stream: str, group: dict[str, Any]) -> tuple[int, int]:
        if group["pending"]:
            summary = await self._redis.xpending(stream, group["name"])
            if summary["min"] is not None:
                return _parts(summary["min"])
        return _parts(group["last-delivered-id"])

    async def _groups(self, stream: str) -> list[dict[str, Any]]:
        try:
            return await self._redis.xinfo_groups(stream)
        except redis.ResponseError as error:
            if "no such key" in str(error):
                return []
            raise


def _parts(entry_id: bytes) -> tuple[int, int]:
    milliseconds_part, _, sequence = entry_id.decode().partition("-")
    return int(milliseconds_part), int(sequence)
