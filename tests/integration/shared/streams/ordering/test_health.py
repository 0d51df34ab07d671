"""What is wrong is seen, nothing is parked for it, and it passes."""

from collections.abc import Sequence

from shared.domain.errors import PermanentError, UnavailableError
from shared.events.catalog import LEADS
from shared.events.envelope import Event
from shared.events.outcome import Outcome
from shared.streams.codec import encode
from shared.streams.consuming.health import FEWEST
from shared.streams.publisher import add_events
from tests.conftest import LEADS_DIVISION
from tests.support.eventually import eventually
from tests.support.keyed_events import Fails, events_of, ids
from tests.support.ordered_workers import OrderedWorkers, Running
from tests.support.workers import DONE, Recorder


async def test_an_outage_is_waited_out_and_uses_up_no_attempt(
    ordered_workers: OrderedWorkers,
) -> None:
    line = events_of("key", 2)
    await add_events(ordered_workers.redis, line)
    handler = Fails(line[0], UnavailableError("PostgreSQL is away"), times=3)
    async with ordered_workers.running(handler, max_attempts=2) as one:
        await eventually(lambda: _is_in_trouble(one, "PostgreSQL is away"))
        await eventually(ordered_workers.all_done)
        await one.worker.check()
    assert set(handler.attempts) == {1}
    assert ids(handler.applied) == ids(line)


async def test_what_is_no_event_is_parked(ordered_workers: OrderedWorkers) -> None:
    [event] = events_of("key", 1)
    name = LEADS_DIVISION.last.name_for("key")
    fields = encode(event)
    await ordered_workers.redis.xadd(name, {"hello": b"\xff\x00"})
    await ordered_workers.redis.xadd(name, fields | {"type": "lead-teleported"})
    await ordered_workers.redis.xadd(name, fields | {"data": "{}"})
    await ordered_workers.redis.xadd(name, fields)
    handler = Recorder()
    async with ordered_workers.running(handler):
        await eventually(ordered_workers.all_done)
    assert [letter.reason for letter in ordered_workers.letters.letters] == [
        "undecodable",
        "unknown-type",
        "invalid-data",
    ]
    assert ids(handler.events) == [event.id]


async def test_a_bad_deployment_does_not_drain_partitions_into_the_dead_letters(
    ordered_workers: OrderedWorkers,
) -> None:
    sent = [event for number in range(FEWEST * 3) for event in events_of(f"key-{number}", 1)]
    await add_events(ordered_workers.redis, sent)
    healthy = False
    applied: list[Event] = []

    async def handler(events: Sequence[Event]) -> list[Outcome]:
        if not healthy:
            raise PermanentError("a bug of ours", code="bug")
        applied.extend(events)
        return [DONE for _ in events]

    async with ordered_workers.running(handler, batch=2) as one:
        await eventually(lambda: _is_in_trouble(one, "nearly every event fails"))
        healthy = True
        parked = {letter.event_id for letter in ordered_workers.letters.letters}
        assert 0 < len(parked) < FEWEST
        held = sum((await ordered_workers.store.count_held(LEADS)).values())

        async def is_back() -> bool:
            return len(applied) >= len(sent) - len(parked) - held

        await eventually(is_back)
        await one.worker.check()
    assert len(ordered_workers.letters.letters) == len(parked)


async def _is_in_trouble(one: Running, words: str) -> bool:
    try:
        await one.worker.check()
    except UnavailableError as error:
        return words in str(error)
    return False
