"""What is read is applied in the order of each key, and no further than is to be held."""

import asyncio
import random
from collections.abc import Sequence, Sized
from datetime import timedelta
from uuid import UUID

from redis.asyncio import Redis

from shared.domain.errors import TransientError
from shared.events.catalog import LEADS, SYNCER
from shared.events.envelope import Event
from shared.events.outcome import Outcome
from shared.streams.codec import encode
from shared.streams.publisher import add_events
from tests.conftest import LEADS_DIVISION
from tests.support.eventually import eventually
from tests.support.keyed_events import Fails, events_of, ids, keys_in
from tests.support.ordered_workers import OrderedWorkers
from tests.support.workers import DONE, Recorder

LAYOUT = LEADS_DIVISION.last
HOUR = timedelta(hours=1)


async def test_order_is_kept_with_mixed_types_and_batches(ordered_workers: OrderedWorkers) -> None:
    lines = [events_of(f"key-{number}", 8) for number in range(6)]
    await add_events(ordered_workers.redis, _shuffled(lines))
    handler = Recorder()
    async with ordered_workers.running(handler, batch=9):
        await eventually(ordered_workers.all_done)
    for line in lines:
        assert ids(handler.events, key=line[0].key) == ids(line)
    assert len(handler.events) == 6 * 8
    for batch in handler.batches:
        assert len({event.type for event in batch}) == 1
        assert len({event.key for event in batch}) == len(batch)
    assert max(map(len, handler.batches)) > 1


async def test_operators_see_the_position_and_nothing_pending(
    ordered_workers: OrderedWorkers,
) -> None:
    [entry_id] = await add_events(ordered_workers.redis, events_of("key", 1))
    async with ordered_workers.running(Recorder()):
        await eventually(ordered_workers.all_done)
    [group] = await ordered_workers.redis.xinfo_groups(LAYOUT.name_for("key"))
    assert group["last-delivered-id"].decode() == entry_id
    assert (group["pending"], group["lag"]) == (0, 0)


async def test_who_leaves_orderly_leaves_nothing_to_repeat(ordered_workers: OrderedWorkers) -> None:
    await add_events(ordered_workers.redis, events_of("key", 3))
    first, second = Recorder(), Recorder()
    async with ordered_workers.running(first, name="one"):
        await eventually(lambda: _count(first.events, 3))
    [later] = events_of("key", 1)
    await add_events(ordered_workers.redis, [later])
    async with ordered_workers.running(second, name="two"):
        await eventually(ordered_workers.all_done)
    assert ids(second.events) == [later.id]


async def test_nobody_waits_for_the_end_of_a_read(ordered_workers: OrderedWorkers) -> None:
    """One joins, its event comes, one leaves, the last one stops; each read would take an hour."""

    async def owned_by(*names: str) -> bool:
        survey = await ordered_workers.store.survey(LEADS)
        members = {member.token: member.name for member in survey.members}
        return {row.owner and members.get(row.owner) for row in survey.partitions} == {*names}

    one, two = Recorder(), Recorder()

    async def add_one_in_each() -> None:
        await add_events(ordered_workers.redis, _one_in_each())

    await add_one_in_each()
    async with ordered_workers.running(one, name="one", block=HOUR):
        await eventually(ordered_workers.all_done)
        await eventually(lambda: _is_at_rest(ordered_workers.redis))
        one.batches.clear()
        async with ordered_workers.running(two, name="two", block=HOUR):
            await eventually(lambda: owned_by("one", "two"))
            await add_one_in_each()
            await eventually(ordered_workers.all_done)
            assert one.events
            assert two.events
        await eventually(lambda: owned_by("one"))
        await add_one_in_each()
        await eventually(ordered_workers.all_done)


async def test_what_is_added_at_once_is_applied_at_once(ordered_workers: OrderedWorkers) -> None:
    """The server wakes a reader with the first of several entries, before it has the others."""
    handler = Recorder()
    await add_events(ordered_workers.redis, _one_in_each())
    async with ordered_workers.running(handler, block=HOUR):
        await eventually(ordered_workers.all_done)
        await eventually(lambda: _is_at_rest(ordered_workers.redis))
        handler.batches.clear()
        wave = _one_in_each()
        await add_events(ordered_workers.redis, wave)
        await eventually(lambda: _count(handler.events, len(wave)))
    assert [len(batch) for batch in handler.batches] == [len(wave)]


async def test_members_come_and_go_under_load(ordered_workers: OrderedWorkers) -> None:
    """One joins, one dies, one joins, one leaves: each at its work."""
    lines = [events_of(f"key-{number}", 40) for number in range(6)]
    await add_events(ordered_workers.redis, _shuffled(lines))
    applied: dict[UUID, Event] = {}

    async def handler(events: Sequence[Event]) -> list[Outcome]:
        await asyncio.sleep(0.005)
        for event in events:
            applied.setdefault(event.id, event)  # what the dead had applied is known by its id
        return [DONE for _ in events]

    async def reach(count: int) -> None:
        await eventually(lambda: _at_least(applied, count))

    async with ordered_workers.running(handler, name="one", batch=5) as one:
        await reach(30)
        async with ordered_workers.running(handler, name="two", batch=5):
            await reach(80)
            await one.kill()
            async with ordered_workers.running(handler, name="three", batch=5):
                await reach(130)
        async with ordered_workers.running(handler, name="four"):
            await eventually(ordered_workers.all_done)
    assert len(applied) == 6 * 40
    for line in lines:
        assert ids(applied.values(), key=line[0].key) == ids(line)


async def test_a_stream_that_was_lost_is_read_from_its_beginning(
    ordered_workers: OrderedWorkers, redis: Redis
) -> None:
    before, after = events_of("key", 2), events_of("key", 2)
    await add_events(redis, before)
    handler = Recorder()
    async with ordered_workers.running(handler):
        await eventually(ordered_workers.all_done)
        await redis.flushall()
        for number, event in enumerate(after, start=1):
            await redis.xadd(LAYOUT.name_for("key"), encode(event), id=f"{number}-1")
        await eventually(lambda: _count(handler.events, 4))
    assert ids(handler.events) == ids([*before, *after])
    survey = await ordered_workers.store.survey(LEADS)
    assert survey.partitions[LAYOUT.partition_of("key")].position == "2-1"


async def test_what_another_master_took_under_smaller_ids_is_not_missed(
    ordered_workers: OrderedWorkers, redis: Redis
) -> None:
    """A replica without the newest entry, whose clock is behind, takes over, and catches up.

    It has caught up before anybody has looked whether the stream has gone back.
    """
    name, line = LAYOUT.name_for("key"), events_of("key", 4)
    handler = Recorder()
    async with ordered_workers.running(handler):
        for id_, event in zip(("1000-0", "2000-0"), line[:2], strict=True):
            await redis.xadd(name, encode(event), id=id_)
        await eventually(ordered_workers.all_done)
        async with redis.pipeline(transaction=True) as pipeline:
            pipeline.delete(name)
            pipeline.xadd(name, encode(line[0]), id="1000-0")
            pipeline.xgroup_create(name, SYNCER, id="1000-0")
            pipeline.xadd(name, encode(line[2]), id="1500-0")
            pipeline.xadd(name, encode(line[3]), id="3000-0")
            await pipeline.execute()
        await eventually(lambda: _has(handler.events, *line[2:]))
    # What was applied before is read again, and is known by its id.
    assert list(dict.fromkeys(ids(handler.events))) == ids(line)


async def test_a_partition_that_holds_too_much_is_read_no_further(
    ordered_workers: OrderedWorkers,
) -> None:
    bad_key, good_key = keys_in(0, count=2)
    [other_key] = keys_in(1, count=1)
    bad, behind, elsewhere = events_of(bad_key, 9), events_of(good_key, 1), events_of(other_key, 1)
    await add_events(ordered_workers.redis, [*bad, *behind, *elsewhere])
    most_held, batch = 3, 2
    counts: list[int] = []
    fails = Fails(bad[0], TransientError("not yet"), times=1)

    async def handler(events: Sequence[Event]) -> Sequence[Outcome]:
        if events[0].attempt == 2:
            counts.extend((await ordered_workers.store.count_held(LEADS)).values())
        return await fails(events)

    async with ordered_workers.running(handler, batch=batch, most_held=most_held):
        await eventually(ordered_workers.all_done)
    [count] = counts
    assert most_held <= count < most_held + batch
    assert ids(fails.applied)[:2] == ids([*elsewhere, bad[0]])
    assert ids(fails.applied, key=bad_key) == ids(bad)


def _one_in_each() -> list[Event]:
    """Return an event for each partition."""
    keys = [keys_in(number, count=1)[0] for number in range(LAYOUT.partitions)]
    return [event for key in keys for event in events_of(key, 1)]


async def _is_at_rest(redis: Redis) -> bool:
    """Return whether Redis shows how far each partition has come: no short read is left."""
    for name in LAYOUT.names:
        [group] = await redis.xinfo_groups(name)
        if group["last-delivered-id"] == b"0-0" or group["lag"] != 0:
            return False
    return True


def _shuffled(lines: Sequence[Sequence[Event]]) -> list[Event]:
    """Return all events in an order that is any but for that of each line."""
    left = [list(line) for line in lines]
    chance = random.Random(7)
    shuffled: list[Event] = []
    while left:
        line = chance.choice(left)
        shuffled.append(line.pop(0))
        if not line:
            left.remove(line)
    return shuffled


async def _has(events: Sequence[Event], *wanted: Event) -> bool:
    return set(ids(events)).issuperset(ids(wanted))


async def _at_least(applied: Sized, count: int) -> bool:
    return len(applied) >= count


async def _count(events: Sequence[Event], count: int) -> bool:
    return len(events) == count
