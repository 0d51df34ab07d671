"""Where nothing changes, Redis is asked little."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeAlias

import pytest
from redis.asyncio import Redis

from shared.events import catalog
from shared.streams.codec import Entry
from shared.streams.consuming.housekeeping import Housekeeping
from shared.streams.consuming.retry import RetryQueue
from shared.streams.ordering.layout import Divisions
from shared.streams.publisher import Capacity, add_events
from tests.support.builders import summary_requested

NOW = timedelta(0)
STREAMS = [catalog.SUMMARIES]

Chore: TypeAlias = Callable[[], Awaitable[object]]


def retries(redis: Redis) -> tuple[Chore, Chore]:
    queue = RetryQueue(redis, stream=catalog.SUMMARIES, group=catalog.SUMMARIZER)
    entry = Entry("1-1", {b"id": b"1"})
    return queue.move_due, lambda: queue.schedule(entry, attempt=2, delay=NOW)


def capacity(redis: Redis) -> tuple[Chore, Chore]:
    measured = Capacity(redis, Divisions(redis), streams=STREAMS, max_bytes=1 << 30)

    async def publish() -> None:
        measured.check(catalog.SUMMARIES)

    return measured.measure_when_due, publish


def housekeeping(redis: Redis) -> tuple[Chore, Chore]:
    chores = Housekeeping(
        redis, streams=STREAMS, retention=timedelta(days=7), max_bytes=1 << 30, name="one"
    )
    return chores.run, lambda: add_events(redis, [summary_requested() for _ in range(100)])


# A lease, which is a script of two commands, and the stream's memory.
@pytest.mark.parametrize(("made", "at_rest"), [(retries, 0), (capacity, 0), (housekeeping, 4)])
async def test_a_chore_asks_again_when_something_has_changed(
    redis: Redis, made: Callable[[Redis], tuple[Chore, Chore]], at_rest: int
) -> None:
    await add_events(redis, [summary_requested()])
    chore, change = made(redis)
    assert await _commands(redis, chore) > at_rest
    assert await _commands(redis, chore) == at_rest
    await change()
    assert await _commands(redis, chore) > at_rest
    assert await _commands(redis, chore) == at_rest


async def test_what_waits_for_its_retry_is_looked_for_when_it_is_due(redis: Redis) -> None:
    """What another process has scheduled is seen at a look, and then comes at its time."""
    other, queue = (
        RetryQueue(redis, stream=catalog.SUMMARIES, group=catalog.SUMMARIZER) for _ in range(2)
    )
    await other.schedule(Entry("1-1", {b"id": b"1"}), attempt=2, delay=timedelta(milliseconds=40))
    await other.schedule(Entry("1-2", {b"id": b"2"}), attempt=2, delay=timedelta(hours=1))
    moved = [await queue.move_due()]
    while not any(moved):
        moved.append(await queue.move_due())
    assert sum(moved) == 1
    assert await _commands(redis, queue.move_due) == 0


async def test_what_is_due_earlier_than_the_next_look_is_not_waited_for_longer(
    redis: Redis,
) -> None:
    queue = RetryQueue(redis, stream=catalog.SUMMARIES, group=catalog.SUMMARIZER)
    await queue.move_due()
    async with asyncio.timeout(1), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(queue.until_due())
        await asyncio.sleep(0)
        delay = timedelta(milliseconds=40)
        await queue.schedule(Entry("1-1", {b"id": b"1"}), attempt=2, delay=delay)
        assert not waiting.done()
    assert await queue.move_due() == 1


async def _commands(redis: Redis, chore: Chore) -> int:
    """Return how many commands the server processes while a chore is done, those of scripts too."""

    async def processed() -> int:
        return int((await redis.info("stats"))["total_commands_processed"])

    before = await processed()
    await chore()
    return await processed() - before - 1
