"""Counts how the events of a replay ended, as reported by the consumers that handled them."""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import cast

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from shared.redis_connections import translated_errors

REMEMBERED = timedelta(days=7)


class ReplayResult(StrEnum):
    """The ends that a replayed event can come to."""

    APPLIED = "applied"
    ALREADY_APPLIED = "already-applied"
    DEAD = "dead"


def tally_key(replay_id: str) -> str:
    """Return the hash in which a replay's results are counted."""
    return f"replay:{replay_id}:tally"


def add_result(pipeline: Pipeline, replay_id: str, result: ReplayResult) -> None:
    """Queue one event's result on a pipeline that the caller executes."""
    pipeline.hincrby(tally_key(replay_id), result, 1)
    pipeline.expire(tally_key(replay_id), REMEMBERED)


async def read_tally(redis: Redis, replay_id: str) -> dict[ReplayResult, int]:
    """Return the counts so far."""
    with translated_errors():
        counts = cast("Mapping[bytes, bytes]", await redis.hgetall(tally_key(replay_id)))
    return {ReplayResult(name.decode()): int(count) for name, count in counts.items()}
