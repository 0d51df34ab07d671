"""How far the groups of a stream have come: what is behind them all, no one needs any more."""

from typing import Any

import redis
from redis.asyncio import Redis

from shared.streams.connection import translated_errors

EntryId = tuple[int, int]


async def finished_before(client: Redis, stream: str, *, group: str | None = None) -> EntryId:
    """Return the first entry id that this group, or some group of the stream, has not finished.

    Raises `UnavailableError` when Redis is down.
    """
    with translated_errors():
        groups = await groups_info(client, stream)
        unfinished = [
            await first_unfinished(client, stream, info)
            for info in groups
            if group is None or info["name"].decode() == group
        ]
    return min(unfinished, default=(0, 0))


async def last_id(client: Redis, stream: str) -> EntryId:
    """Return the newest entry's id, also when the entry is gone; raises `UnavailableError`."""
    with translated_errors():
        return entry_id((await client.xinfo_stream(stream))["last-generated-id"])


async def first_unfinished(client: Redis, stream: str, group: dict[str, Any]) -> EntryId:
    """Return the id of a group's oldest pending entry, or the one behind the last delivered."""
    if group["pending"]:
        oldest = (await client.xpending(stream, group["name"]))["min"]
        if oldest is not None:
            return entry_id(oldest)
    time, sequence = entry_id(group["last-delivered-id"])
    return time, sequence + 1


async def groups_info(client: Redis, stream: str) -> list[dict[str, Any]]:
    """Return what Redis says of a stream's groups; none when there is no stream."""
    try:
        return await client.xinfo_groups(stream)
    except redis.ResponseError as error:
        if "no such key" in str(error):
            return []
        raise


def entry_id(text: bytes | str) -> EntryId:
    """Return an entry id in a form that sorts."""
    decoded = text.decode() if isinstance(text, bytes) else text
    time, _, sequence = decoded.partition("-")
    return int(time), int(sequence or 0)
