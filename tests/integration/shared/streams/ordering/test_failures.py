"""A key that fails is held, and what is behind it waits; all others go on."""

from shared.domain.errors import PermanentError, TransientError
from shared.events.catalog import LEADS
from shared.storage.pool import Database
from shared.streams.publisher import add_events
from tests.support.eventually import eventually
from tests.support.keyed_events import Fails, events_of, ids, keys_in
from tests.support.ordered_workers import OrderedWorkers


async def test_a_failure_holds_its_key_only(ordered_workers: OrderedWorkers) -> None:
    bad, good = (events_of(key, 4) for key in keys_in(0, count=2))
    await add_events(ordered_workers.redis, [*bad, *good])
    handler = Fails(bad[0], TransientError("not yet"), times=1)
    async with ordered_workers.running(handler):
        await eventually(lambda: _any_held(ordered_workers))
        more = events_of(bad[0].key, 1)
        await add_events(ordered_workers.redis, more)
        await eventually(ordered_workers.all_done)
    assert ids(handler.applied) == ids([*good, *bad, *more])
    assert handler.attempts == [1, 2]
    assert ordered_workers.letters.letters == []


async def test_attempts_and_what_is_held_survive_the_owner(ordered_workers: OrderedWorkers) -> None:
    line = events_of("key", 4)
    await add_events(ordered_workers.redis, line)
    handler = Fails(line[0], TransientError("not yet"), times=1)
    async with ordered_workers.running(handler, name="one") as one:
        await eventually(lambda: _any_held(ordered_workers))
        await one.kill()
    async with ordered_workers.running(handler, name="two"):
        await eventually(ordered_workers.all_done)
    assert handler.attempts == [1, 2]
    assert ids(handler.applied) == ids(line)


async def test_what_was_held_is_not_read_once_more(
    ordered_workers: OrderedWorkers, database: Database
) -> None:
    """Its last owner died before the position was saved, and it comes to its end before that."""
    line = events_of("key", 3)
    await add_events(ordered_workers.redis, line)
    before = Fails(line[0], TransientError("not yet"))
    async with ordered_workers.running(before, name="one") as one:
        await eventually(lambda: _all_held(ordered_workers, len(line)))
        await one.kill()
    async with database.connection() as connection:
        await connection.execute("UPDATE leads.partition SET position = '0-0'")
        await connection.execute("UPDATE leads.held_entry SET due_at = now()")
    after = Fails(line[1], PermanentError("not now", code="unfit"), times=1)
    async with ordered_workers.running(after, name="two"):
        await eventually(ordered_workers.all_done)
    assert ids(after.applied) == ids([line[0], line[2]])
    assert len(ordered_workers.letters.letters) == 1


async def test_a_parked_entry_frees_its_key(ordered_workers: OrderedWorkers) -> None:
    line = events_of("key", 3)
    await add_events(ordered_workers.redis, line)
    handler = Fails(line[0], PermanentError("never", code="unfit"))
    async with ordered_workers.running(handler):
        await eventually(ordered_workers.all_done)
    assert ids(handler.applied) == ids(line[1:])
    [letter] = ordered_workers.letters.letters
    assert (letter.event_id, letter.reason) == (str(line[0].id), "unfit")


async def test_an_entry_that_used_up_its_attempts_frees_its_key(
    ordered_workers: OrderedWorkers,
) -> None:
    line = events_of("key", 3)
    await add_events(ordered_workers.redis, line)
    handler = Fails(line[0], TransientError("not yet"))
    async with ordered_workers.running(handler, max_attempts=2):
        await eventually(ordered_workers.all_done)
    assert ids(handler.applied) == ids(line[1:])
    [letter] = ordered_workers.letters.letters
    assert (letter.event_id, letter.reason, letter.attempts) == (str(line[0].id), "attempts", 2)


async def _any_held(workers: OrderedWorkers) -> bool:
    return bool(await workers.store.count_held(LEADS))


async def _all_held(workers: OrderedWorkers, number: int) -> bool:
    return sum((await workers.store.count_held(LEADS)).values()) == number
