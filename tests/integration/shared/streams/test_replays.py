"""Replays in Redis: how far they have come, what they count, and the streams that they read."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from redis.asyncio import Redis

from shared.domain.errors import PermanentError
from shared.events.catalog import SUMMARIES, SUMMARIZER
from shared.events.replay import ReplayOrder, ReplayOrigin, ReplayPage
from shared.streams.codec import entries_of, read_entries
from shared.streams.ordering.layout import Divisions
from shared.streams.replays.jobs import ReplayJobs, note_copies, remove_copies
from shared.streams.replays.stream_source import StreamSource
from shared.streams.replays.tally import ReplayResult, add_result, read_tally

PARTS = tuple(f"{SUMMARIES}:{{1.{number}}}" for number in range(3))


class InParts(Divisions):
    """A stream that is divided into three parts."""

    async def streams_of(self, stream: str) -> Sequence[str]:
        return [stream, *PARTS]


def order_of(origin: ReplayOrigin = ReplayOrigin.ARCHIVE, **options: Any) -> ReplayOrder:
    return ReplayOrder(origin=origin, stream=SUMMARIES, group=SUMMARIZER, **options)


def page_of(*names: bytes, position: str) -> ReplayPage:
    events = [{b"id": name, b"subject": name} for name in names]
    return ReplayPage(events=events, position=position, examined=len(events))


async def report(redis: Redis, order: ReplayOrder, *results: tuple[int | None, str]) -> None:
    async with redis.pipeline(transaction=False) as pipeline:
        for number, result in results:
            add_result(pipeline, order.id, number, ReplayResult(result))
        await pipeline.execute()


async def test_each_event_counts_once(redis: Redis) -> None:
    order = order_of()
    await report(redis, order, (0, "applied"), (1, "refused"), (0, "already-applied"))
    await report(redis, order, (1, "already-applied"), (70_000, "dead"))
    assert await read_tally(redis, order.id) == {
        ReplayResult.APPLIED: 1,
        ReplayResult.REFUSED: 1,
        ReplayResult.DEAD: 1,
    }
    # What replays of earlier versions have put back has no numbers.
    await report(redis, order, (None, "applied"), (None, "applied"))
    assert (await read_tally(redis, order.id))[ReplayResult.APPLIED] == 3
    for key in await redis.keys("*tally*"):
        assert await redis.ttl(key) > 0


async def test_a_page_that_is_added_again_has_the_same_numbers(redis: Redis) -> None:
    jobs, order = ReplayJobs(redis), order_of()
    await jobs.save(order)
    await jobs.add_page(order, page_of(b"1", b"2", position="2"), after=None)
    before = await redis.dump(f"replay:{order.id}")
    await jobs.add_page(order, page_of(b"3", b"4", position="4"), after="2")
    # As if the process had died before it moved the position.
    await redis.restore(f"replay:{order.id}", 0, before or b"", replace=True)
    await jobs.add_page(order, page_of(b"3", b"4", position="4"), after="2")
    numbers = [
        int(entry.fields[b"replaynumber"]) for entry in entries_of(await redis.xrange(SUMMARIES))
    ]
    assert numbers == [0, 1, 2, 3, 2, 3]
    await report(redis, order, *((number, "already-applied") for number in numbers))
    progress = await jobs.progress(order.id)
    assert (progress.added, progress.settled, progress.outstanding) == (4, 4, 0)


async def test_what_need_not_be_put_back_is_counted(redis: Redis) -> None:
    jobs, order = ReplayJobs(redis), order_of()
    await jobs.save(order)
    page = replace(page_of(b"1", b"3", position="4"), there=frozenset({1, 3}), examined=4)
    before = await redis.dump(f"replay:{order.id}")
    for _ in range(2):  # the first process died before it moved the position
        await redis.restore(f"replay:{order.id}", 0, before or b"", replace=True)
        await jobs.add_page(order, page, after=None)
    await jobs.add_page(
        order, replace(page, events=[], there=frozenset({0, 1}), position="6"), after="4"
    )
    numbers = [
        int(one.fields[b"replaynumber"]) for one in entries_of(await redis.xrange(SUMMARIES))
    ]
    assert numbers == [0, 2, 0, 2]
    progress = await jobs.progress(order.id)
    assert (progress.added, progress.outstanding) == (6, 2)
    assert progress.results == {ReplayResult.ALREADY_APPLIED: 4}


async def test_of_two_that_add_a_page_at_once_one_goes_on(redis: Redis) -> None:
    jobs, order = ReplayJobs(redis), order_of()
    await jobs.save(order)
    page = page_of(b"1", position="1")
    ends = await asyncio.gather(
        *(jobs.add_page(order, page, after=None) for _ in range(2)), return_exceptions=True
    )
    [refused] = [end for end in ends if isinstance(end, PermanentError)]
    assert refused.code == "replay-moved"
    progress = await jobs.progress(order.id)
    assert (progress.position, progress.added) == ("1", 1)


async def test_a_stream_in_parts_is_read_by_the_ids_of_its_entries(redis: Redis) -> None:
    # Uneven, and with ids that several parts have.
    ids = {
        SUMMARIES: ["1-0", "2-0"],
        PARTS[0]: [f"{3 + number}-0" for number in range(20)],
        PARTS[1]: ["3-0", "3-1", "9-0", "22-0", "30-0"],
    }
    for stream, some in ids.items():
        for entry in some:
            fields = {"type": "t", "time": "2026-01-01T00:00:00+00:00", "name": f"{stream} {entry}"}
            await redis.xadd(stream, fields, id=entry)  # type: ignore[arg-type]  # redis-py's
    everything = {f"{stream} {entry}" for stream, some in ids.items() for entry in some}
    for rate in (1, 7, 9, 100):
        source = StreamSource(redis, order_of(ReplayOrigin.STREAM, rate=rate), InParts(redis))
        assert await source.size() == len(everything)
        names, position = list[str](), None
        while True:  # as one process after the other
            try:
                page = await anext(source.pages(after=position))
            except StopAsyncIteration:
                break
            names += [fields[b"name"].decode() for fields in page.events]
            position = page.position
        assert len(names) == len(everything)
        assert set(names) == everything
        times = [int(name.rpartition(" ")[2].partition("-")[0]) for name in names]
        assert all(one <= next_ for one, next_ in pairwise(times))
    assert (await source.counts())["t"] == len(everything)


async def test_entries_leave_the_streams_whose_groups_are_done_with_them(redis: Redis) -> None:
    for stream in PARTS[:2]:
        await redis.xgroup_create(stream, SUMMARIZER, id="0", mkstream=True)
        for number in (1, 2):
            await redis.xadd(stream, {"a": "b"}, id=f"{number}-0")
            await note_copies(redis, [(stream, f"{number}-0")])
    read = await redis.xreadgroup(SUMMARIZER, "tests", {PARTS[0]: ">"})
    assert [await remove_copies(redis, stream) for stream in PARTS] == [True, True, False]
    assert [await redis.xlen(stream) for stream in PARTS[:2]] == [2, 2]
    for entry in read_entries(read):
        await redis.xack(PARTS[0], SUMMARIZER, entry.id)
    assert [await remove_copies(redis, stream) for stream in PARTS] == [False, True, False]
    assert [await redis.xlen(stream) for stream in PARTS[:2]] == [0, 2]
