"""How many entries a group was given: counted, whatever has been added, trimmed and put back."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from shared.observability.metrics import DB_SECONDS
from shared.streams.codec import entries_of, read_entries
from shared.streams.entry_counter import EntryCounter
from shared.streams.inspection import AT_ONCE, Inspector

STREAM, GROUP = "stream:any", "any"
PAGE = 10

Meanwhile = Callable[[Redis], Awaitable[object]]


async def add(redis: Redis, number: int) -> None:
    for _ in range(number):
        await redis.xadd(STREAM, {"a": "b"})


async def read(redis: Redis, number: int) -> list[str]:
    reply = await redis.xreadgroup(GROUP, "one", {STREAM: ">"}, count=number)
    return [entry.id for entry in read_entries(reply)]


async def finish(redis: Redis, number: int) -> list[str]:
    entries = await read(redis, number)
    await redis.xack(STREAM, GROUP, *entries)
    return entries


async def nothing(_redis: Redis) -> None:
    pass


async def finish_old(redis: Redis) -> None:
    """Read some more without finishing them."""
    oldest = entries_of(await redis.xrange(STREAM, count=2))
    await redis.xack(STREAM, GROUP, *(entry.id for entry in oldest))
    await read(redis, 1)


async def finish_and_remove(redis: Redis) -> None:
    """As replays do with their copies."""
    await add(redis, 3)
    await redis.xdel(STREAM, *await finish(redis, 4))


async def finish_and_trim(redis: Redis) -> None:
    done = await finish(redis, 3)
    await redis.xtrim(STREAM, minid=done[-1])


async def grow(redis: Redis) -> None:
    await add(redis, 3 * PAGE)


async def grow_and_finish(redis: Redis) -> None:
    await add(redis, 3 * PAGE)
    await finish(redis, 2 * PAGE)


async def finish_more_than_a_page(redis: Redis) -> None:
    await finish(redis, PAGE + 3)


async def finish_much_more(redis: Redis) -> None:
    await finish(redis, 3 * PAGE)


async def go_back(redis: Redis) -> None:
    await redis.xgroup_setid(STREAM, GROUP, "0")


@pytest.mark.parametrize(
    ("backlog", "meanwhile", "handled"),
    [
        (5, nothing, 0),
        (5, finish_old, 2),
        (5, grow, 0),
        (5, go_back, 0),
        (5, grow_and_finish, 2 * PAGE),
        (5, finish_and_remove, 4),
        (5, finish_and_trim, 3),
        (4 * PAGE, nothing, 0),
        (4 * PAGE, finish_and_trim, 3),
        (4 * PAGE, finish_and_remove, 4),
        (4 * PAGE, finish_more_than_a_page, PAGE + 3),
        (4 * PAGE, finish_much_more, None),
    ],
)
async def test_what_was_handled_meanwhile(
    backlog: int, meanwhile: Meanwhile, handled: int | None, redis: Redis
) -> None:
    await add(redis, backlog + 2)
    await redis.xgroup_create(STREAM, GROUP, "0")
    await read(redis, 2)
    counter = EntryCounter(redis, page=PAGE)
    before = await counter.mark(STREAM)
    await meanwhile(redis)
    [state] = await Inspector(redis, page=PAGE).look_at(STREAM)
    [group] = state.groups
    was = before.groups[GROUP]
    given = await counter.given_since(
        was,
        STREAM,
        position=group.last_delivered,
        added=state.added - before.added,
        undelivered=group.undelivered,
    )
    assert (None if given is None else max(0, given - (group.pending - was.pending))) == handled


async def test_a_group_that_was_not_watched_has_no_rate(redis: Redis) -> None:
    await add(redis, 1)
    assert (await EntryCounter(redis, page=PAGE).mark(STREAM)).groups == {}
    await redis.xgroup_create(STREAM, GROUP, "0")
    inspector = Inspector(redis)
    assert [group.handled_per_second for group in (await inspector.look(STREAM)).groups] == [None]
    [state] = await inspector.sampled((STREAM,), over=timedelta(milliseconds=10))
    assert [group.handled_per_second for group in state.groups] == [0.0]
    [nowhere] = await inspector.sampled(("stream:nowhere",), over=timedelta(milliseconds=10))
    assert (nowhere.exists, nowhere.groups) == (False, ())


async def test_many_streams_are_looked_at_in_few_round_trips_each_with_its_own_groups(
    redis: Redis,
) -> None:
    names = [f"stream:{number}" for number in range(AT_ONCE + 3)]
    for number, name in enumerate(names[1:]):  # the first is not there
        await redis.xadd(name, {"number": number})
        for group in range(number % 3):
            await redis.xgroup_create(name, f"{name}:{group}", id="0")
            await redis.xgroup_createconsumer(name, f"{name}:{group}", f"{name}:{group}:reader")
    inspector = Inspector(redis)
    before = _uses()
    states = await inspector.look_at(*names)
    assert _uses() - before == 4
    assert [state.name for state in states] == names
    for state in states:
        assert [replace(state, groups=())] == [
            replace(alone, groups=()) for alone in await inspector.look_at(state.name)
        ]
        assert [
            (group.name, [consumer.name for consumer in group.consumers]) for group in state.groups
        ] == [
            (f"{state.name}:{number}", [f"{state.name}:{number}:reader"])
            for number in range(len(state.groups))
        ]
    assert [len(state.groups) for state in states] == [0, *(one % 3 for one in range(AT_ONCE + 2))]


def _uses() -> int:
    """Return how often a connection was used: a command, or a pipeline."""
    counts, _ = DB_SECONDS.labels("redis", "command", "").sample()
    *_, uses = counts
    return int(uses)
