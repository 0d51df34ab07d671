"""Nobody waits for what a replay puts back; each key's events stay in their order all the same."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from redis.asyncio import Redis

from shared.domain.errors import TransientError
from shared.events.envelope import Event
from shared.events.outcome import Outcome
from shared.streams.publisher import add_events
from tests.support.eventually import eventually
from tests.support.keyed_events import Fails, events_of, ids
from tests.support.ordered_workers import OrderedWorkers
from tests.support.workers import DONE, Recorder

KEYS = [f"key-{number}" for number in range(30)]


async def put_back(redis: Redis, *, each: int) -> list[list[Event]]:
    """Add events as a replay does, of each key so many; returns them by key."""
    lines = [events_of(key, each) for key in KEYS]
    lines = [[replace(event, replay_id="replay") for event in line] for line in lines]
    await add_events(redis, [event for turn in zip(*lines, strict=True) for event in turn])
    return lines


async def test_what_waits_behind_them_goes_first(ordered_workers: OrderedWorkers) -> None:
    lines = await put_back(ordered_workers.redis, each=3)
    others = [event for number in range(9) for event in events_of(f"other-{number}", 2)]
    await add_events(ordered_workers.redis, others)
    handler = Recorder()
    async with ordered_workers.running(handler, batch=200):
        await eventually(ordered_workers.all_done)
    assert set(ids(handler.events[: len(others)])) == set(ids(others))
    for line in [*lines, *(others[start : start + 2] for start in range(0, len(others), 2))]:
        assert ids(handler.events, key=line[0].key) == ids(line)


async def test_what_has_their_keys_comes_after_them(ordered_workers: OrderedWorkers) -> None:
    lines = await put_back(ordered_workers.redis, each=2)
    later = [event for key in KEYS[::3] for event in events_of(key, 3)]
    await add_events(ordered_workers.redis, later)
    handler = Recorder()
    async with ordered_workers.running(handler, batch=7):
        await eventually(ordered_workers.all_done)
    assert len(handler.events) == len(KEYS) * 2 + len(later)
    for line in lines:
        key = line[0].key
        assert ids(handler.events, key=key) == [*ids(line), *ids(later, key=key)]


async def test_what_comes_meanwhile_waits_for_a_slice_of_them(
    ordered_workers: OrderedWorkers,
) -> None:
    lines = await put_back(ordered_workers.redis, each=4)
    begun, go_on = asyncio.Event(), asyncio.Event()
    applied: list[Event] = []

    async def handler(events: Sequence[Event]) -> list[Outcome]:
        begun.set()
        await go_on.wait()
        applied.extend(events)
        return [DONE for _ in events]

    async with ordered_workers.running(handler, batch=20):
        await asyncio.wait_for(begun.wait(), 5)
        [event] = events_of("other", 1)
        await add_events(ordered_workers.redis, [event])
        go_on.set()
        await eventually(ordered_workers.all_done)
    assert ids(applied).index(event.id) < len(applied) / 2
    for line in lines:
        assert ids(applied, key=line[0].key) == ids(line)


async def test_one_that_goes_first_and_fails_is_tried_again_once_each(
    ordered_workers: OrderedWorkers,
) -> None:
    await put_back(ordered_workers.redis, each=2)
    others = events_of("other", 3)
    await add_events(ordered_workers.redis, others)
    handler = Fails(others[0], TransientError("not now"), times=1)
    async with ordered_workers.running(handler, batch=20):
        await eventually(ordered_workers.all_done)
    assert ids(handler.applied, key="other") == ids(others)
    assert len(handler.applied) == len(KEYS) * 2 + len(others)
    assert ordered_workers.letters.letters == []


async def test_who_takes_over_repeats_and_loses_nothing(ordered_workers: OrderedWorkers) -> None:
    """The first one dies when it has done what waits behind replayed events, and few of these."""
    lines = await put_back(ordered_workers.redis, each=4)
    later = [event for key in (*KEYS[:5], "other", "another") for event in events_of(key, 2)]
    await add_events(ordered_workers.redis, later)
    dies = Fails(lines[0][1], TransientError("the process ends here"))
    begun = asyncio.Event()

    async def handler(events: Sequence[Event]) -> list[Outcome]:
        if any(event.id == lines[0][1].id for event in events):
            begun.set()
            await asyncio.Event().wait()
        return await dies(events)

    async with ordered_workers.running(handler, batch=10) as one:
        await asyncio.wait_for(begun.wait(), 10)
        await one.kill()
        rest = Recorder()
        async with ordered_workers.running(rest, name="two", batch=10):
            await eventually(ordered_workers.all_done)
    assert {*ids(dies.applied), *ids(rest.events)} >= {
        *ids(later),
        *(e.id for x in lines for e in x),
    }
    for line in lines:
        key = line[0].key
        whole = [*ids(line), *ids(later, key=key)]
        repeated = ids(rest.events, key=key)
        assert repeated == whole[len(whole) - len(repeated) :]
