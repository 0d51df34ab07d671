"""How far a group has come with its stream."""

from datetime import timedelta
from typing import Any

from redis.asyncio import Redis

from shared.events import catalog
from tests.support.eventually import eventually


async def drained(
    redis: Redis, *, stream: str = catalog.LEADS, within: timedelta = timedelta(seconds=30)
) -> None:
    """Wait until a stream's group has read and acknowledged everything, retries included."""

    async def all_done() -> bool:
        groups: list[dict[str, Any]] = await redis.xinfo_groups(stream)
        waiting = sum([await redis.zcard(key) for key in await redis.keys(f"retry:{stream}:*")])
        return [(group["lag"], group["pending"]) for group in groups] == [(0, 0)] and not waiting

    await eventually(all_done, within=within)
