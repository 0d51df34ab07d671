"""Trimming forgets what is old and finished, and nothing else."""

import contextlib
from datetime import timedelta
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from shared.events import catalog
from shared.streams.codec import entries_of
from shared.streams.consuming.housekeeping import Housekeeping
from shared.streams.ordering.layout import Divisions
from shared.streams.publisher import (
    Capacity,
    StreamFullError,
    add_events,
    memory_of,
    open_publisher,
)
from shared.streams.replays.jobs import note_copies
from tests.conftest import LEADS_DIVISION
from tests.support.builders import lead_created, summary_requested

# Old enough for any retention, and in whole nodes, since trimming is by the node.
COUNT = 500
NOTHING = timedelta(microseconds=1)
WEEK = timedelta(days=7)
PLENTY = 1 << 30


async def test_finished_and_old_is_trimmed(redis: Redis) -> None:
    await _fill(redis, read=COUNT, acknowledged=COUNT)
    await _housekeeping(redis, retention=NOTHING).trim()
    assert await redis.xlen(catalog.SUMMARIES) < COUNT / 2


async def test_young_is_kept(redis: Redis) -> None:
    await _fill(redis, read=COUNT, acknowledged=COUNT)
    await _housekeeping(redis, retention=WEEK).trim()
    assert await redis.xlen(catalog.SUMMARIES) == COUNT


@pytest.mark.parametrize(("read", "acknowledged"), [(0, 0), (COUNT, 0), (200, 200), (400, 250)])
async def test_what_a_group_has_yet_to_finish_is_kept_however_old(
    redis: Redis, read: int, acknowledged: int
) -> None:
    ids = await _fill(redis, read=read, acknowledged=acknowledged)
    await _housekeeping(redis, retention=NOTHING).trim()
    kept = {entry.id for entry in entries_of(await redis.xrange(catalog.SUMMARIES))}
    assert kept.issuperset(ids[acknowledged:])


async def test_without_its_group_a_stream_is_not_trimmed(redis: Redis) -> None:
    await add_events(redis, [summary_requested() for _ in range(COUNT)])
    await _housekeeping(redis, retention=NOTHING).trim()
    assert await redis.xlen(catalog.SUMMARIES) == COUNT


async def test_history_makes_way_before_new_events_are_refused(redis: Redis) -> None:
    await _fill(redis, read=COUNT, acknowledged=COUNT)
    await _housekeeping(redis, retention=WEEK, max_bytes=10_000).trim()
    assert await redis.xlen(catalog.SUMMARIES) < COUNT / 2


async def test_of_a_divided_stream_each_partition_keeps_what_is_not_done(redis: Redis) -> None:
    """A partition's group shows its position: one is done, one is half done, one not begun."""
    names = LEADS_DIVISION.last.names
    done = (COUNT, COUNT // 2, 0)
    for name, finished in zip(names, done, strict=True):
        async with redis.pipeline(transaction=False) as pipeline:
            for number in range(1, COUNT + 1):
                pipeline.xadd(name, {"text": "x" * 100}, id=f"{number}-1")
            pipeline.xgroup_create(name, catalog.SYNCER, id=f"{finished}-1")
            await pipeline.execute()
    await _housekeeping(redis, stream=catalog.LEADS, retention=NOTHING).trim()
    kept = [[entry.id for entry in entries_of(await redis.xrange(name))] for name in names]
    for ids, finished in zip(kept, done, strict=True):
        assert set(ids).issuperset(f"{number}-1" for number in range(finished + 1, COUNT + 1))
    assert [len(ids) < COUNT for ids in kept] == [True, True, False]


async def test_the_bound_counts_all_partitions_together(redis: Redis) -> None:
    events = [lead_created() for _ in range(COUNT)]
    await add_events(redis, events)
    sizes = [await memory_of(redis, name) for name in LEADS_DIVISION.last.names]
    bound = max(sizes) * 2
    assert bound < sum(sizes)
    capacity = Capacity(redis, Divisions(redis), streams=[catalog.LEADS], max_bytes=bound)
    await capacity.measure()
    with pytest.raises(StreamFullError):
        capacity.check(catalog.LEADS)
    for name in LEADS_DIVISION.last.names[1:]:
        await redis.xtrim(name, maxlen=0, approximate=False)
    await capacity.measure()
    capacity.check(catalog.LEADS)


@pytest.mark.parametrize(
    "full",
    [
        {catalog.SUMMARIES},
        {catalog.LEADS},
        {catalog.LEADS, catalog.SYNC},
        {catalog.IMPORTS, catalog.SUMMARIES, catalog.SYNC},
        set[str](),
    ],
)
async def test_all_streams_are_measured_at_once_and_each_by_itself(
    redis: Redis, full: set[str]
) -> None:
    names = [catalog.LEADS, catalog.SUMMARIES, catalog.SYNC, catalog.IMPORTS]
    for name in full:
        place = LEADS_DIVISION.last.names[-1] if name == catalog.LEADS else name
        await redis.xadd(place, {"text": "x" * 20_000})
    trips = RoundTrips(redis)
    capacity = Capacity(cast("Redis", trips), Divisions(redis), streams=names, max_bytes=10_000)
    await capacity.measure()
    assert trips.number == 1
    for name in names:
        with pytest.raises(StreamFullError) if name in full else contextlib.nullcontext():
            capacity.check(name)


class RoundTrips:
    """A client of Redis for pipelines, which it counts."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.number = 0

    def pipeline(self, **options: Any) -> object:
        self.number += 1
        return self._redis.pipeline(**options)


async def test_a_full_stream_refuses_events_until_it_has_room(redis: Redis) -> None:
    await _fill(redis, read=0, acknowledged=0)
    async with open_publisher(redis, Divisions(redis), max_bytes=10_000) as publisher:
        capacity = Capacity(redis, Divisions(redis), streams=[catalog.SUMMARIES], max_bytes=10_000)
        await capacity.measure()
        with pytest.raises(StreamFullError):
            capacity.check(catalog.SUMMARIES)
        await redis.xtrim(catalog.SUMMARIES, maxlen=0, approximate=False)
        await capacity.measure()
        capacity.check(catalog.SUMMARIES)
        assert await publisher.publish(summary_requested())


async def test_a_long_idle_consumer_is_removed_only_with_nothing_pending(redis: Redis) -> None:
    await _fill(redis, read=1, acknowledged=0)
    await _housekeeping(redis, retention=WEEK).remove_idle_consumers()
    assert len(await redis.xinfo_consumers(catalog.SUMMARIES, catalog.SUMMARIZER)) == 1


async def test_one_leads_at_a_time_and_another_follows(redis: Redis) -> None:
    lease = timedelta(milliseconds=200)
    first, second = (_housekeeping(redis, name=name) for name in ("first", "second"))
    assert await first.hold_lease(lease)
    assert not await second.hold_lease(lease)
    assert await first.hold_lease(lease)
    await redis.delete(f"leader:housekeeping:{catalog.SUMMARIES}")  # as when the lease is over
    assert await second.hold_lease(lease)
    assert not await first.hold_lease(lease)


def _housekeeping(
    redis: Redis,
    *,
    stream: str = catalog.SUMMARIES,
    retention: timedelta = WEEK,
    max_bytes: int = PLENTY,
    name: str = "one",
) -> Housekeeping:
    return Housekeeping(
        redis, streams=[stream], retention=retention, max_bytes=max_bytes, name=name
    )


async def _fill(redis: Redis, *, read: int, acknowledged: int) -> list[str]:
    """Add entries of which the group has read and acknowledged the first so many."""
    await redis.xgroup_create(catalog.SUMMARIES, catalog.SUMMARIZER, id="0", mkstream=True)
    added = await add_events(redis, [summary_requested() for _ in range(COUNT)])
    if read:
        await redis.xreadgroup(catalog.SUMMARIZER, "reader", {catalog.SUMMARIES: ">"}, count=read)
    if acknowledged:
        await redis.xack(catalog.SUMMARIES, catalog.SUMMARIZER, *added[:acknowledged])
    return added


async def test_copies_of_a_replay_that_nobody_goes_on_with_are_removed(redis: Redis) -> None:
    await redis.xgroup_create(catalog.SUMMARIES, catalog.SUMMARIZER, id="0", mkstream=True)
    added = await add_events(redis, [summary_requested() for _ in range(5)])
    copies = [added[1], added[3], added[4]]
    await note_copies(redis, [(catalog.SUMMARIES, copy) for copy in copies])
    chores = _housekeeping(redis)
    for read, left in ((0, added), (3, [added[0], added[2], added[4]]), (4, [added[0], added[2]])):
        await redis.xgroup_setid(catalog.SUMMARIES, catalog.SUMMARIZER, added[read])
        await chores.trim()
        entries = entries_of(await redis.xrange(catalog.SUMMARIES))
        assert [entry.id for entry in entries] == left
