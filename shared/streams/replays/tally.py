"""Counts how the events of a replay ended, as reported by the consumers that handled them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
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
    """Queue one event's result on a pipeline that the caller executes."""
    add_results(pipeline, [(replay_id, number, result)])


def add_results(
    pipeline: Pipeline, results: Iterable[tuple[str, int | None, ReplayResult]]
) -> None:
    """Queue results, each of a replay and an event's number, on a pipeline that is yet to go.

    By its number in the replay an event counts once, however often it is put back or handled.
    """
    numbers: defaultdict[tuple[str, ReplayResult], list[int]] = defaultdict(list)
    for replay_id, number, result in results:
        numbers[replay_id, result].append(_NO_NUMBER if number is None else number)
    for (replay_id, result), counted in numbers.items():
        count_once.queue(
            pipeline,
            tally=_tally_key(replay_id),
            counted=_counted_key(replay_id),
            result=result,
            remembered=REMEMBERED,
            numbers=counted,
        )


@lua_script("""
local new = 0
for _, number in ipairs(numbers) do
  if tonumber(number) < 0 or redis.call('SETBIT', counted, number, 1) == 0 then new = new + 1 end
end
if new > 0 then redis.call('HINCRBY', tally, result, new) end
redis.call('PEXPIRE', tally, remembered)
redis.call('PEXPIRE', counted, remembered)
""")
def count_once(
    *, tally: Key, counted: Key, result: str, remembered: timedelta, numbers: Sequence[int]
) -> None:
    """Add to a result's count the numbers whose bits are not set, and those below 0; sets them."""
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
