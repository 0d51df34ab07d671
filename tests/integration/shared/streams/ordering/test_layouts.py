"""A stream is divided anew without losing an event, and without mixing up the order of a key."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from shared.background import background
from shared.domain.errors import TransientError, UnavailableError
from shared.events.catalog import LEADS, SYNCER
from shared.events.envelope import Event
from shared.events.outcome import Outcome
from shared.events.partitions import Division, HeldEntry
from shared.storage.partitions import PartitionRepository
from shared.storage.pool import Database
from shared.streams.codec import encode
from shared.streams.ordering.layout import ClosedError, Divisions
from shared.streams.ordering.ownership import Ownership
from shared.streams.publisher import add_events
from tests.conftest import LEADS_DIVISION
from tests.support.eventually import eventually
from tests.support.keyed_events import Fails, events_of, ids
from tests.support.ordered_workers import OrderedWorkers
from tests.support.workers import DONE, Recorder

FIRST = LEADS_DIVISION.last


async def test_what_came_before_there_were_partitions_is_done_first(
    ordered_workers: OrderedWorkers, redis: Redis
) -> None:
    old = [*events_of("one", 3), *events_of("two", 3)]
    await _add_undivided(redis, old)
    begun, go_on = asyncio.Event(), asyncio.Event()
    handled = Recorder()

    async def handler(events: Sequence[Event]) -> list[Outcome]:
        begun.set()
        await go_on.wait()
        return await handled(events)

    later = [*events_of("two", 2), *events_of("one", 2)]
    async with ordered_workers.running(handler):
        await asyncio.wait_for(begun.wait(), 5)
        with pytest.raises(ClosedError):
            await add_events(redis, later)
        with pytest.raises(ResponseError):
            await redis.xadd(LEADS, {"sent-by": "a process from before there were partitions"})
        go_on.set()
        await eventually(lambda: _added(redis, later))
        await eventually(ordered_workers.all_done)
    assert ids(handled.events[: len(old)]) == ids(old)
    for key in ("one", "two"):
        assert ids(handled.events, key=key) == ids([*old, *later], key=key)


async def test_a_retry_from_before_there_were_partitions_comes_before_what_is_new(
    ordered_workers: OrderedWorkers, redis: Redis
) -> None:
    old, later = events_of("one", 1), events_of("one", 2)
    await _add_undivided(redis, old)
    handler = Fails(old[0], TransientError("not yet"), times=1)
    async with ordered_workers.running(handler):
        await eventually(lambda: _added(redis, later))
        await eventually(ordered_workers.all_done)
    assert ids(handler.applied) == ids([*old, *later])
    assert handler.attempts == [1, 2]


async def test_a_layout_opens_once_all_of_the_one_before_is_done(
    redis: Redis, database: Database
) -> None:
    store, divisions = PartitionRepository(database), Divisions(redis)
    owner = _owner(redis, store)
    await owner.keep()
    [event] = events_of("key", 1)
    [entry_id] = await add_events(redis, [event], divisions)
    await _divide(redis, store, partitions=5)

    async def is_open() -> bool:
        await owner.keep()
        division = await store.division(LEADS)
        assert division is not None
        assert division == await Divisions(redis).refresh(LEADS)
        return division.is_open

    assert not await is_open()  # it is not done
    assert len(owner.owned) == FIRST.partitions
    for name in FIRST.names:
        with pytest.raises(ResponseError):
            await redis.xadd(name, {"sent-by": "a process that knows no better"})

    number = FIRST.partition_of("key")
    [claim] = [one.claim for one in owner.owned if one.claim.number == number]
    held = HeldEntry(entry_id=entry_id, key="key", attempt=2, wait=timedelta(0), fields={})
    await store.hold(claim, [held])
    await store.move([(claim, entry_id)])
    assert not await is_open()  # it is held

    await store.let_go(claim, [entry_id])
    assert await is_open()
    assert {(one.claim.layout, one.name) for one in owner.owned} == {
        (2, f"{LEADS}:{{2.{number}}}") for number in range(5)
    }


async def test_a_publisher_that_knows_the_layout_of_before_ends_in_the_new_one(
    redis: Redis, database: Database
) -> None:
    store, stale = PartitionRepository(database), Divisions(redis)
    assert await stale.layout(LEADS) == FIRST
    owner = _owner(redis, store)
    await owner.keep()
    division = await _divide(redis, store, partitions=5)
    await owner.keep()
    [event] = events_of("key", 1)
    assert await stale.layout(LEADS) == FIRST
    await add_events(redis, [event], stale)
    assert await redis.xlen(division.last.name_for("key")) == 1


@pytest.mark.parametrize("found", [None, LEADS_DIVISION])
async def test_redis_is_told_again_what_it_has_lost(
    redis: Redis, database: Database, found: Division | None
) -> None:
    """As after a restart without its data, or with older ones."""
    store = PartitionRepository(database)
    owner = _owner(redis, store)
    await owner.keep()
    division = await _divide(redis, store, partitions=5)
    await owner.keep()
    await redis.flushall()
    if found is not None:
        await Divisions(redis).publish(found)
    await owner.keep()
    assert await Divisions(redis).layout(LEADS) == division.last


@pytest.mark.parametrize(("before", "later"), [(0, (5,)), (1, (5, 2)), (1, (5, 2, 4))])
async def test_a_restored_database_goes_on_with_layouts_that_redis_alone_knows(
    before: int,
    later: Sequence[int],
    ordered_workers: OrderedWorkers,
    redis: Redis,
    database: Database,
) -> None:
    """As after a restore of a backup from before the number of partitions was changed."""
    store, events = ordered_workers.store, list[Event]()

    async def publish() -> None:
        more = [event for key in ("one", "two", "three") for event in events_of(key, 2)]
        events.extend(more)
        await eventually(lambda: _added(redis, more))
        await eventually(ordered_workers.all_done)

    async with ordered_workers.running(Recorder()):
        await publish()
        kept = await store.survey(LEADS) if before else None
        await publish()
        for number, partitions in enumerate(later, start=2):
            await _divide(redis, store, partitions=partitions, number=number)
            await publish()
        whole = await Divisions(redis).refresh(LEADS)
    async with database.connection() as connection:
        await connection.execute("DELETE FROM leads.layout WHERE number > 1")
        await connection.execute("UPDATE leads.partition SET position = '0-0'")
        for partition in kept.partitions if kept else ():
            await connection.execute(
                "UPDATE leads.partition SET position = $2 WHERE number = $1",
                partition.number,
                partition.position,
            )
    lost = events[6 * before :]
    again = Recorder()
    async with ordered_workers.running(again):
        await eventually(lambda: _added(redis, [events_of("one", 1)[0]]))
        await eventually(ordered_workers.all_done)
    for key in ("one", "two", "three"):
        found = ids(again.events, key=key)
        assert found[: len(ids(lost, key=key))] == ids(lost, key=key)
    assert await store.division(LEADS) == await Divisions(redis).refresh(LEADS) == whole


async def test_while_a_stream_is_divided_anew_no_key_is_mixed_up(
    ordered_workers: OrderedWorkers, redis: Redis
) -> None:
    """Two workers, a publisher that does not stop, and one event that fails meanwhile."""
    publisher = Publishes(redis, [f"key-{number}" for number in range(4)])
    applied: dict[UUID, Event] = {}
    has_failed = asyncio.Event()

    async def handler(events: Sequence[Event]) -> list[Outcome]:
        if any(event.subject == publisher.failing and event.attempt == 1 for event in events):
            has_failed.set()
            raise TransientError("not yet")
        for event in events:
            applied.setdefault(event.id, event)  # what was added twice is applied once
        return [DONE for _ in events]

    async def is_half_way() -> bool:
        return len(applied) > len(publisher.events) / 2 > 20

    async with (
        ordered_workers.running(handler, name="one"),
        ordered_workers.running(handler, name="two"),
        background(publisher.run(), name="publisher"),
    ):
        await eventually(is_half_way)
        publisher.have_next_fail()
        await asyncio.wait_for(has_failed.wait(), 5)
        await _divide(redis, ordered_workers.store, partitions=5)
        await asyncio.wait_for(publisher.is_done.wait(), 10)
        await eventually(ordered_workers.all_done)
    assert publisher.layouts == {FIRST.number, 2}
    for key in publisher.keys:
        assert ids(applied.values(), key=key) == ids(publisher.events, key=key)


class Publishes:
    """Publishes one event of each key after another, until it has done so in a new layout."""

    def __init__(self, redis: Redis, keys: Sequence[str]) -> None:
        self.keys = keys
        self.events: list[Event] = []
        self.layouts: set[int] = set()
        self.is_done = asyncio.Event()
        self.failing: str | None = None
        self._redis = redis
        self._divisions = Divisions(redis)
        self._fails_next = False

    def have_next_fail(self) -> None:
        """Choose an event that is to fail at first."""
        self._fails_next = True

    async def run(self) -> None:
        """Publish until each key has had events in two layouts."""
        for _ in range(200):
            events = [event for key in self.keys for event in events_of(key, 1)]
            if self._fails_next:
                self._fails_next, self.failing = False, events[0].subject
            self.events.extend(events)
            await eventually(partial(_added, self._redis, events, self._divisions))
            self.layouts.add((await self._divisions.layout(LEADS)).number)
            if len(self.layouts) > 1:
                break
            await asyncio.sleep(0.01)
        self.is_done.set()


def _owner(redis: Redis, store: PartitionRepository) -> Ownership:
    return Ownership(
        store,
        Divisions(redis, store),
        redis,
        stream=LEADS,
        name="one",
        lease=timedelta(hours=1),
    )


async def _add_undivided(redis: Redis, events: Sequence[Event]) -> None:
    """Have Redis as it was before there were partitions, with these events in it."""
    await redis.flushall()
    await redis.xgroup_create(LEADS, SYNCER, id="0", mkstream=True)
    for event in events:
        await redis.xadd(LEADS, encode(event))


async def _divide(
    redis: Redis, store: PartitionRepository, *, partitions: int, number: int = 2
) -> Division:
    """Add a layout, as an operator does."""
    division = await store.divide(LEADS, number=number, partitions=partitions, is_open=False)
    await Divisions(redis).publish(division)
    return division


async def _added(redis: Redis, events: Sequence[Event], divisions: Divisions | None = None) -> bool:
    try:
        await add_events(redis, events, divisions)
    except UnavailableError:
        return False
    return True
