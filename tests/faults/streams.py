"""How far groups have come with their streams."""

from datetime import timedelta
from typing import Any

from redis.asyncio import Redis

from tests.faults.database import Tables
from tests.support.eventually import eventually
from tests.support.partitions import all_leads_done

PATIENCE = timedelta(seconds=30)


async def drained(redis: Redis, *, stream: str, within: timedelta = PATIENCE) -> None:
    """Wait until a stream's group has read and acknowledged everything, retries included."""

    async def all_done() -> bool:
        groups: list[dict[str, Any]] = await redis.xinfo_groups(stream)
        waiting = sum([await redis.zcard(key) for key in await redis.keys(f"retry:{stream}:*")])
        return [(group["lag"], group["pending"]) for group in groups] == [(0, 0)] and not waiting

    await eventually(all_done, within=within)


async def leads_drained(redis: Redis, tables: Tables, *, within: timedelta = PATIENCE) -> None:
    """Wait until all that is in the partitions of leads is done, and none of it is held."""

    async def all_done() -> bool:
        return await all_leads_done(redis) and not await tables.value(_HELD)

    await eventually(all_done, within=within)


_HELD = "SELECT count(*) FROM leads.held_entry WHERE attempt > 0"
