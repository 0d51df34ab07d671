"""I9: trimming never drops an entry that some group has yet to finish."""

import random
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from shared.events import catalog
from shared.streams.codec import entries_of
from shared.streams.consuming.housekeeping import Housekeeping
from tests.faults.conftest import Figure
from tests.faults.scale import scaled

STREAMS = scaled(6, 60)
ENTRIES = 1_200
CHUNK = 150
# How far the clock of a server that took over differs from that of the one before.
SKEWS = (timedelta(minutes=-10), timedelta(0), timedelta(minutes=10))
RETENTION = timedelta(minutes=5)
STALLED = "stalled"
LATE = 0.3

Trim = Callable[[Redis], Awaitable[object]]


class GroupOfReaders:
    """A group that falls behind by chance, and knows what it has yet to finish."""

    def __init__(self, redis: Redis, name: str, chance: random.Random, *, pace: int) -> None:
        self._redis = redis
        self._name = name
        self._chance = chance
        self._pace = pace
        self._pending: list[str] = []
        self._undelivered: list[str] = []

    @property
    def unfinished(self) -> set[str]:
        """The ids that must not be trimmed."""
        return {*self._pending, *self._undelivered}

    def added(self, ids: list[str]) -> None:
        self._undelivered += ids

    async def work(self) -> None:
        """Read some and acknowledge some, not quite in order."""
        count = self._chance.randint(0, self._pace)
        if count:
            await self._redis.xreadgroup(self._name, "reader", {catalog.LEADS: ">"}, count=count)
        self._pending += self._undelivered[:count]
        self._undelivered = self._undelivered[count:]
        late = [self._pending.pop(0) for _ in self._pending[:3] if self._chance.random() < LATE]
        done, self._pending = self._pending[: self._pace], late + self._pending[self._pace :]
        if done:
            await self._redis.xack(catalog.LEADS, self._name, *done)


async def check_trimming(redis: Redis, trim: Trim, chance: random.Random, streams: int) -> int:
    """Trim streams while groups work on them; fail if an unfinished entry is gone.

    Returns how many finished entries were trimmed.
    """
    trimmed = 0
    for number in range(streams):
        await redis.flushall()
        trimmed += await _check_stream(redis, trim, chance, skew=SKEWS[number % len(SKEWS)])
    return trimmed


async def _check_stream(redis: Redis, trim: Trim, chance: random.Random, *, skew: timedelta) -> int:
    groups = [
        GroupOfReaders(redis, catalog.SYNCER, chance, pace=CHUNK),
        GroupOfReaders(redis, STALLED, chance, pace=CHUNK // 2),
    ]
    for name in (catalog.SYNCER, STALLED):
        await redis.xgroup_create(catalog.LEADS, name, id="0", mkstream=True)
    seconds, _ = await redis.time()
    first = int(seconds * 1000 + skew / timedelta(milliseconds=1))
    kept: set[str] = set()
    for start in range(0, ENTRIES, CHUNK):
        async with redis.pipeline(transaction=False) as pipeline:
            for number in range(start, start + CHUNK):
                pipeline.xadd(catalog.LEADS, {b"n": b"%d" % number}, id=f"{first + number}-0")
            ids = [entry_id.decode() for entry_id in await pipeline.execute()]
        for group in groups:
            group.added(ids)
            await group.work()
        await trim(redis)
        kept = {entry.id for entry in entries_of(await redis.xrange(catalog.LEADS))}
        lost = {entry_id for group in groups for entry_id in group.unfinished} - kept
        assert not lost, f"{len(lost)} unfinished entries were trimmed"
    return ENTRIES - len(kept)


async def trim_well(redis: Redis) -> None:
    housekeeping = Housekeeping(
        redis, streams=[catalog.LEADS], retention=RETENTION, max_bytes=1 << 30, name="tests"
    )
    await housekeeping.trim()


async def trim_to_a_length(redis: Redis) -> None:
    await redis.xtrim(catalog.LEADS, maxlen=CHUNK, approximate=True)


async def trim_by_a_fast_clock(redis: Redis) -> None:
    seconds, _ = await redis.time()
    fast = seconds + timedelta(minutes=10).total_seconds() - RETENTION.total_seconds()
    await redis.xtrim(catalog.LEADS, minid=str(int(fast * 1000)), approximate=True)


async def test_trimming_loses_nothing(redis: Redis, chance: random.Random, figure: Figure) -> None:
    trimmed = await check_trimming(redis, trim_well, chance, STREAMS)
    assert trimmed > 0, "nothing was trimmed, so nothing was shown"
    figure(
        f"{STREAMS * ENTRIES:,} entries, a stalled group, clocks 10 min off: "
        f"{trimmed:,} trimmed, 0 lost"
    )


@pytest.mark.parametrize("trim", [trim_to_a_length, trim_by_a_fast_clock])
async def test_control_other_ways_to_trim_lose_entries(
    trim: Trim, redis: Redis, chance: random.Random, figure: Figure
) -> None:
    with pytest.raises(AssertionError, match="unfinished entries were trimmed") as failed:
        await check_trimming(redis, trim, chance, len(SKEWS))
    way = "MAXLEN" if trim is trim_to_a_length else "MINID by a clock 10 min fast"
    figure(f"{way}: {str(failed.value).splitlines()[0]}")
