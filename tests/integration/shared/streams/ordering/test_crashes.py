"""What a process that ended has left: applied once, followed up, or parked when it kills."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

from shared.domain.errors import TransientError, UnavailableError
from shared.events.catalog import LEADS
from shared.events.envelope import Event
from shared.events.outcome import Outcome
from shared.events.partitions import Claim, Member, Partition
from shared.storage.pool import Database
from shared.streams.consuming.group import last_entry
from shared.streams.publisher import add_events
from tests.conftest import LEADS_DIVISION
from tests.support.eventually import eventually
from tests.support.keyed_events import DeathError, Fails, events_of, ids
from tests.support.ordered_workers import OrderedWorkers
from tests.support.workers import DONE, Recorder

LAYOUT = LEADS_DIVISION.last


async def test_an_entry_that_kills_is_run_alone_then_parked(
    ordered_workers: OrderedWorkers,
) -> None:
    lines = [events_of(f"key-{number}", 1) for number in range(6)]
    [killer] = lines[3]
    lines[3] += events_of(killer.key, 1)
    await add_events(ordered_workers.redis, [event for line in lines for event in line])
    handler = Fails(killer, DeathError())
    for number in range(3):
        async with ordered_workers.running(handler, name=f"syncer:test:{number}") as one:
            await one.death()
    async with ordered_workers.running(handler, name="syncer:test:3"):
        await eventually(ordered_workers.all_done)
    assert handler.company == [5, 0, 0]
    [letter] = ordered_workers.letters.letters
    assert (letter.event_id, letter.reason) == (str(killer.id), "crash")
    others = {event.id for line in lines for event in line} - {killer.id}
    assert set(ids(handler.applied)) == others


async def test_what_an_owner_died_of_is_known_to_all_later_ones(
    ordered_workers: OrderedWorkers, database: Database
) -> None:
    """The one after it may have given the partition up again, or died before it did anything."""
    lines = [events_of(f"key-{number}", 1) for number in range(6)]
    [killer] = lines[3]
    await add_events(ordered_workers.redis, [event for line in lines for event in line])
    handler = Fails(killer, DeathError())
    for number in range(3):
        async with ordered_workers.running(handler, name=f"syncer:test:{number}") as one:
            await one.death()
        async with database.connection() as connection:
            await connection.execute("UPDATE leads.partition SET owner = NULL")
    async with ordered_workers.running(handler, name="syncer:test:3"):
        await eventually(ordered_workers.all_done)
    assert handler.company == [5, 0, 0]


async def test_a_held_entry_that_kills_is_parked_too(ordered_workers: OrderedWorkers) -> None:
    line = events_of("key", 2)
    await add_events(ordered_workers.redis, line)
    handler = Fails(line[0], TransientError("not yet"), DeathError())
    for number in range(2):
        async with ordered_workers.running(handler, name=f"syncer:test:{number}") as one:
            await one.death()
    async with ordered_workers.running(handler, name="syncer:test:2"):
        await eventually(ordered_workers.all_done)
    assert handler.attempts == [1, 2, 2]
    assert [letter.reason for letter in ordered_workers.letters.letters] == ["crash"]
    assert ids(handler.applied) == ids(line[1:])


async def test_what_killed_and_is_settled_is_not_parked(ordered_workers: OrderedWorkers) -> None:
    line = events_of("key", 2)
    await add_events(ordered_workers.redis, line)
    handler = Fails(line[0], DeathError())
    for number in range(3):
        async with ordered_workers.running(handler, name=f"syncer:test:{number}") as one:
            await one.death()
    async with ordered_workers.running(handler, name="syncer:test:3", settled=True):
        await eventually(ordered_workers.all_done)
    assert ordered_workers.letters.letters == []
    assert ids(handler.applied) == ids(line[1:])


async def test_who_stops_in_an_outage_has_not_crashed(ordered_workers: OrderedWorkers) -> None:
    """An event is tried again while PostgreSQL is away, and process after process is restarted."""
    [event] = events_of("key", 1)
    await add_events(ordered_workers.redis, [event])
    called = asyncio.Event()

    async def is_stuck(events: Sequence[Event]) -> list[Outcome]:
        if events[0].attempt == 1:
            raise TransientError("not yet")
        called.set()
        raise UnavailableError("PostgreSQL is away")

    for number in range(4):
        async with ordered_workers.running(is_stuck, name=f"syncer:test:{number}"):
            await asyncio.wait_for(called.wait(), 5)
            called.clear()
    handler = Recorder()
    async with ordered_workers.running(handler, name="syncer:test:4"):
        await eventually(ordered_workers.all_done)
    assert ids(handler.events) == [event.id]
    assert ordered_workers.letters.letters == []


async def test_what_was_applied_and_not_followed_up_is_followed_up(
    ordered_workers: OrderedWorkers,
) -> None:
    [event] = events_of("key", 1)
    address = "reply:api:test:1"
    await add_events(ordered_workers.redis, [replace(event, reply_to=address)])
    committed = asyncio.Event()

    async def sleeps_after_commit(_events: Sequence[Event]) -> list[Outcome]:
        committed.set()
        await asyncio.sleep(60)
        return []

    async with ordered_workers.running(sleeps_after_commit, name="one") as one:
        await asyncio.wait_for(committed.wait(), 5)
        await one.kill()
    assert not await ordered_workers.redis.exists(address)
    handler = Recorder()
    async with ordered_workers.running(handler, name="two"):
        await eventually(ordered_workers.all_done)
    assert ids(handler.events) == [event.id]
    assert await ordered_workers.redis.exists(address)


async def test_who_lost_a_partition_while_at_work_changes_nothing(
    ordered_workers: OrderedWorkers, database: Database
) -> None:
    """It costs no attempt and no letter, and whoever owns the partition next applies the event."""
    async with database.connection() as connection:
        await connection.execute("CREATE TABLE effect (attempt integer)")
    at_work, go_on = asyncio.Event(), asyncio.Event()
    calls = 0

    async def handler(events: Sequence[Event]) -> list[Outcome]:
        nonlocal calls
        calls += 1
        at_work.set()
        await go_on.wait()
        async with database.transaction() as connection:
            await connection.execute("INSERT INTO effect VALUES ($1)", events[0].attempt)
        return [DONE for _ in events]

    await add_events(ordered_workers.redis, events_of("key", 1))
    store, number = ordered_workers.store, LAYOUT.partition_of("key")
    async with ordered_workers.running(handler):
        await asyncio.wait_for(at_work.wait(), 5)
        [row] = [row for row in (await store.survey(LEADS)).partitions if row.number == number]
        other = Claim(LEADS, LAYOUT.number, number, uuid4(), row.epoch + 1)
        assert await store.claim(other, row) is not None
        go_on.set()
        await eventually(ordered_workers.all_done)
    async with database.connection() as connection:
        rows = await connection.fetch("SELECT attempt FROM effect")
    assert (calls, [row["attempt"] for row in rows]) == (2, [1])
    assert ordered_workers.letters.letters == []


async def test_what_was_begun_before_a_partition_was_lost_ends_nothing_once_it_is_back(
    ordered_workers: OrderedWorkers, database: Database
) -> None:
    """The owner in between came to another end with the event, and went on to the next one."""
    async with database.connection() as connection:
        await connection.execute("CREATE TABLE effect (id uuid)")
    at_work, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def apply(event: Event) -> None:
        async with database.transaction() as connection:
            await connection.execute("INSERT INTO effect VALUES ($1)", event.id)

    async def handler(events: Sequence[Event]) -> list[Outcome]:
        at_work.set()
        await go_on.wait()
        try:
            await apply(events[0])
        finally:
            ended.set()
        return [DONE for _ in events]

    store, number = ordered_workers.store, LAYOUT.partition_of("key")

    async def look() -> Partition:
        rows = (await store.survey(LEADS)).partitions
        return next(row for row in rows if row.number == number)

    parked, applied = events_of("key", 2)
    await add_events(ordered_workers.redis, [parked, applied])
    newest = await last_entry(ordered_workers.redis, LAYOUT.name(number))
    assert newest is not None
    position = "-".join(map(str, newest))
    async with ordered_workers.running(handler):
        await asyncio.wait_for(at_work.wait(), 5)
        other = Member(uuid4(), "syncer:there:1", "there", "1")
        await store.survey(LEADS, beat=other)
        before = await look()
        claim = Claim(LEADS, LAYOUT.number, number, other.token, before.epoch + 1)
        assert await store.claim(claim, before) is not None
        with store.fenced([(claim, position)]):
            await apply(applied)
        await store.release(claim)
        await store.leave(other)

        async def is_back() -> bool:
            return (await look()).owner == before.owner

        await eventually(is_back)
        go_on.set()
        await asyncio.wait_for(ended.wait(), 5)
    async with database.connection() as connection:
        rows = await connection.fetch("SELECT id FROM effect")
    assert [row["id"] for row in rows] == [applied.id]
    assert (await look()).position == position
