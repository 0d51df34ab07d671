"""I9: trimming never drops an entry that a group, or a partition's owner, has yet to finish."""

import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Protocol
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from shared.events import catalog
from shared.events.partitions import Division, Layout
from shared.streams.codec import entries_of
from shared.streams.consuming.housekeeping import Housekeeping
from shared.streams.ordering.bookkeeping import Bookkeeping
from shared.streams.ordering.layout import Divisions
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

Trim = Callable[[Redis, str], Awaitable[object]]


class Reader(Protocol):
    """Whoever reads a stream, and knows what must not be trimmed."""

    @property
    def unfinished(self) -> set[str]: ...
    def added(self, ids: list[str]) -> None: ...
    async def work(self) -> None: ...


class GroupOfReaders:
    """A shared group that falls behind by chance."""

    def __init__(
        self, redis: Redis, stream: str, name: str, chance: random.Random, *, pace: int
    ) -> None:
        self._redis = redis
        self._stream = stream
        self._name = name
        self._chance = chance
        self._pace = pace
        self._pending: list[str] = []
        self._undelivered: list[str] = []

    @property
    def unfinished(self) -> set[str]:
        return {*self._pending, *self._undelivered}

    def added(self, ids: list[str]) -> None:
        self._undelivered += ids

    async def work(self) -> None:
        """Read some and acknowledge some, not quite in order."""
        count = self._chance.randint(0, self._pace)
        if count:
            await self._redis.xreadgroup(self._name, "reader", {self._stream: ">"}, count=count)
        self._pending += self._undelivered[:count]
        self._undelivered = self._undelivered[count:]
        late = [self._pending.pop(0) for _ in self._pending[:3] if self._chance.random() < LATE]
        done, self._pending = self._pending[: self._pace], late + self._pending[self._pace :]
        if done:
            await self._redis.xack(self._stream, self._name, *done)


class Owners:
    """The owners of a partition, one after another: each has to look up how far it has come.

    One that was stopped a while shows its old position once more.
    """

    def __init__(self, redis: Redis, stream: str, chance: random.Random) -> None:
        self._notes = Bookkeeping(redis, group=catalog.SYNCER, owner=uuid4())
        self._stream = stream
        self._chance = chance
        self._left: list[str] = []
        self._positions = ["0-0"]

    @property
    def unfinished(self) -> set[str]:
        return set(self._left)

    def added(self, ids: list[str]) -> None:
        self._left += ids

    async def work(self) -> None:
        """Be done with some, and show it."""
        count = self._chance.randint(0, CHUNK)
        self._positions += self._left[:count][-1:]
        self._left = self._left[count:]
        shown = self._positions[-1:]
        if self._chance.random() < LATE:
            shown += self._positions[-2:-1]
        for position in shown:
            await self._notes.note(running={}, positions=[(self._stream, position)], held={})


async def shared_group(redis: Redis, chance: random.Random) -> tuple[str, list[Reader]]:
    """Return a stream with its group and one that has stalled."""
    stream = catalog.SUMMARIES
    for name in (catalog.SUMMARIZER, STALLED):
        await redis.xgroup_create(stream, name, id="0", mkstream=True)
    return stream, [
        GroupOfReaders(redis, stream, catalog.SUMMARIZER, chance, pace=CHUNK),
        GroupOfReaders(redis, stream, STALLED, chance, pace=CHUNK // 2),
    ]


async def partition(redis: Redis, chance: random.Random) -> tuple[str, list[Reader]]:
    """Return a partition of leads, and who owns it."""
    layout = Layout(catalog.LEADS, 1, 1)
    await Divisions(redis).publish(Division([layout], is_open=True))
    return layout.name(0), [Owners(redis, layout.name(0), chance)]


KINDS = {catalog.SUMMARIES: shared_group, catalog.LEADS: partition}


async def check_trimming(
    redis: Redis, trim: Trim, chance: random.Random, *, kind: str, streams: int
) -> int:
    """Trim streams while they are worked on; fail if an unfinished entry is gone.

    Returns how many finished entries were trimmed.
    """
    trimmed = 0
    for number in range(streams):
        await redis.flushall()
        stream, readers = await KINDS[kind](redis, chance)
        skew = SKEWS[number % len(SKEWS)]
        ids = await _ids(redis, skew=skew)
        trimmed += await _check_stream(redis, stream, readers, ids, lambda: trim(redis, kind))
    return trimmed


async def _ids(redis: Redis, *, skew: timedelta) -> Sequence[str]:
    seconds, _ = await redis.time()
    first = int(seconds * 1000 + skew / timedelta(milliseconds=1))
    return [f"{first + number}-0" for number in range(ENTRIES)]


async def _check_stream(
    redis: Redis,
    stream: str,
    readers: Sequence[Reader],
    ids: Sequence[str],
    trim: Callable[[], Awaitable[object]],
) -> int:
    kept: set[str] = set()
    for start in range(0, ENTRIES, CHUNK):
        added = list(ids[start : start + CHUNK])
        async with redis.pipeline(transaction=False) as pipeline:
            for id_ in added:
                pipeline.xadd(stream, {b"n": b"1"}, id=id_)
            await pipeline.execute()
        for reader in readers:
            reader.added(added)
            await reader.work()
        await trim()
        kept = {entry.id for entry in entries_of(await redis.xrange(stream))}
        lost = {id_ for reader in readers for id_ in reader.unfinished} - kept
        assert not lost, f"{len(lost)} unfinished entries were trimmed"
    return ENTRIES - len(kept)


async def trim_well(redis: Redis, stream: str) -> None:
    housekeeping = Housekeeping(
        redis, streams=[stream], retention=RETENTION, max_bytes=1 << 30, name="tests"
    )
    await housekeeping.trim()


async def trim_to_a_length(redis: Redis, stream: str) -> None:
    for name in await Divisions(redis).streams_of(stream):
        await redis.xtrim(name, maxlen=CHUNK, approximate=True)


async def trim_by_a_fast_clock(redis: Redis, stream: str) -> None:
    seconds, _ = await redis.time()
    fast = seconds + timedelta(minutes=10).total_seconds() - RETENTION.total_seconds()
    for name in await Divisions(redis).streams_of(stream):
        await redis.xtrim(name, minid=str(int(fast * 1000)), approximate=True)


@pytest.mark.parametrize("kind", list(KINDS))
async def test_trimming_loses_nothing(
    kind: str, redis: Redis, chance: random.Random, figure: Figure
) -> None:
    trimmed = await check_trimming(redis, trim_well, chance, kind=kind, streams=STREAMS)
    assert trimmed > 0, "nothing was trimmed, so nothing was shown"
    behind = "owners that fall behind" if kind == catalog.LEADS else "a stalled group"
    figure(
        f"{kind}: {STREAMS * ENTRIES:,} entries, {behind}, clocks 10 min off: "
        f"{trimmed:,} trimmed, 0 lost"
    )


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("trim", [trim_to_a_length, trim_by_a_fast_clock])
async def test_control_other_ways_to_trim_lose_entries(
    trim: Trim, kind: str, redis: Redis, chance: random.Random, figure: Figure
) -> None:
    with pytest.raises(AssertionError, match="unfinished entries were trimmed") as failed:
        await check_trimming(redis, trim, chance, kind=kind, streams=len(SKEWS))
    way = "MAXLEN" if trim is trim_to_a_length else "MINID by a clock 10 min fast"
    figure(f"{kind}, {way}: {str(failed.value).splitlines()[0]}")
