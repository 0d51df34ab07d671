"""Counts how the events of a replay ended, as reported by the consumers that handled them."""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import cast

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from shared.lua import Key, lua_script
from shared.redis_connections import translated_errors

REMEMBERED = timedelta(days=7)

# The number of an event that has none: a replay of an earlier version put it back.
_NO_NUMBER = -1


class ReplayResult(StrEnum):
    """The ends that a replayed event can come to.

    One that is refused could not be applied as it was: another lead has its key by now.
    """

    APPLIED = "applied"
    ALREADY_APPLIED = "already-applied"
    REFUSED = "refused"
    DEAD = "dead"


def add_result(
    pipeline: Pipeline, replay_id: str, number: int | None, result: ReplayResult
) -> None:
    """Queue one event's result on a pipeline that the caller executes.

    By its `number` in the replay an event counts once, however often it is put back or handled.
    """
    count_once.queue(
        pipeline,
        tally=_tally_key(replay_id),
        counted=_counted_key(replay_id),
        number=_NO_NUMBER if number is None else number,
        result=result,
        remembered=REMEMBERED,
    )


@lua_script("""
if number >= 0 then
  if redis.call('SETBIT', counted, number, 1) == 1 then return end
  redis.call('PEXPIRE', counted, remembered)
end
redis.call('HINCRBY', tally, result, 1)
redis.call('PEXPIRE', tally, remembered)
""")
def count_once(
    *, tally: Key, counted: Key, number: int, result: str, remembered: timedelta
) -> None:
    """Add one to a result's count unless the bit of this number is set; sets it."""
    raise NotImplementedError


async def read_tally(redis: Redis, replay_id: str) -> dict[ReplayResult, int]:
    """Return the counts so far."""
    with translated_errors():
        counts = cast("Mapping[bytes, bytes]", await redis.hgetall(_tally_key(replay_id)))
    return {ReplayResult(name.decode()): int(count) for name, count in counts.items()}


# What is in braces keeps both in one slot of a cluster.


def _tally_key(replay_id: str) -> str:
    return f"replay:{{{replay_id}}}:tally"


def _counted_key(replay_id: str) -> str:
    return f"replay:{{{replay_id}}}:counted"
