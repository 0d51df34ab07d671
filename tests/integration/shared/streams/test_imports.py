"""An import's place in its file: moved once for each window, however many processes try."""

import pytest
from redis.asyncio import Redis

from shared.events.envelope import new_id
from shared.streams.imports import ImportJobs, ImportProgress
from shared.streams.publisher import StreamFullError
from tests.support.builders import lead_created
from tests.support.partitions import lead_entries


async def test_a_window_counts_once(redis: Redis) -> None:
    jobs, import_id = ImportJobs(redis), new_id()
    first = ImportProgress(500, {"rows": 500})
    assert await jobs.progress(import_id) is None
    assert await jobs.advance(import_id, first, after=0, problems=b"1\n")
    # A process that was taken for dead has seen to the same window.
    late = ImportProgress(400, {"rows": 400})
    assert not await jobs.advance(import_id, late, after=0, problems=b"1\n")
    assert await jobs.progress(import_id) == first
    second = ImportProgress(1_000, {"rows": 1_000})
    assert await jobs.advance(import_id, second, after=500, problems=b"")
    assert await jobs.progress(import_id) == second
    assert [lines async for lines in jobs.errors(import_id)] == [b"1\n"]
    await jobs.remove_progress(import_id)
    assert await jobs.progress(import_id) is None


async def test_the_events_of_a_window_are_published_once_while_they_may_be_under_way(
    redis: Redis,
) -> None:
    jobs, import_id = ImportJobs(redis), new_id()
    events = [lead_created(), lead_created()]
    for _ in range(2):
        await jobs.offer(import_id, window="2", events=events)
    assert len(await lead_entries(redis)) == 2
    await jobs.offer(import_id, window="3", events=[lead_created()])
    assert len(await lead_entries(redis)) == 3


async def test_nothing_is_published_into_a_stream_that_is_full(redis: Redis) -> None:
    jobs = ImportJobs(redis, max_bytes=1)
    await jobs.offer(new_id(), window="1", events=[lead_created()])
    with pytest.raises(StreamFullError):
        await jobs.offer(new_id(), window="1", events=[lead_created()])
    assert len(await lead_entries(redis)) == 1
