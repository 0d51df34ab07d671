"""A parked event has ended: no later owner runs it behind the events that it has let go on."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from shared.domain.errors import PermanentError, TransientError
from shared.events.catalog import LEADS
from shared.events.envelope import Event
from shared.events.outcome import Outcome
from shared.storage.pool import Database
from shared.streams.publisher import add_events
from tests.conftest import LEADS_DIVISION
from tests.support.builders import lead_created, lead_updated
from tests.support.eventually import eventually
from tests.support.keyed_events import ids, keys_in
from tests.support.ordered_workers import OrderedWorkers
from tests.support.workers import DONE

PARTITION = 0


@dataclass
class Line:
    """What is in a partition, in this order; `slow` is applied after `later`, by its type."""

    first: Event
    slow: Event
    bad: Event
    later: Event

    @classmethod
    def make(cls) -> "Line":
        slow, bad = keys_in(PARTITION, count=2)
        first = lead_created(partition_key=slow)
        return cls(
            first,
            lead_updated(first.subject, partition_key=slow, city="Paris"),
            lead_created(partition_key=bad),
            lead_created(partition_key=bad),
        )

    @property
    def events(self) -> list[Event]:
        return [self.first, self.slow, self.bad, self.later]


@dataclass
class Hangs:
    """A handler that never comes back from one event, and fails with another."""

    bad: Event
    slow: Event
    error: Exception
    applied: list[Event] = field(default_factory=list[Event])
    hangs: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, events: Sequence[Event]) -> list[Outcome]:
        if self.slow.id in ids(events):
            self.hangs.set()
            await asyncio.Event().wait()
        if self.bad.id in ids(events):
            raise self.error
        self.applied.extend(events)
        return [DONE for _ in events]


@dataclass
class Applies:
    """A handler that applies whatever comes."""

    applied: list[Event] = field(default_factory=list[Event])

    async def __call__(self, events: Sequence[Event]) -> list[Outcome]:
        self.applied.extend(events)
        return [DONE for _ in events]


@pytest.fixture
async def line(ordered_workers: OrderedWorkers) -> Line:
    line = Line.make()
    await add_events(ordered_workers.redis, line.events)
    return line


@asynccontextmanager
async def _killed(
    ordered_workers: OrderedWorkers, handler: Hangs, *, name: str, most_held: int = 1_000
) -> AsyncGenerator[None]:
    """Run a worker and kill it in the event that hangs, after the block."""
    running = ordered_workers.running(handler, name=name, max_attempts=2, most_held=most_held)
    async with running as one:
        await asyncio.wait_for(handler.hangs.wait(), 5)
        yield
        await one.kill()


async def test_an_event_parked_before_its_owner_died_is_not_run_again(
    ordered_workers: OrderedWorkers, line: Line
) -> None:
    """The position is not past it when its owner dies: an earlier event is still at work."""
    before = Hangs(line.bad, line.slow, PermanentError("not now", code="unfit"))
    async with _killed(ordered_workers, before, name="one"):
        pass
    assert ids(before.applied, key=line.bad.key) == [line.later.id]
    after = Applies()
    async with ordered_workers.running(after, name="two"):
        await eventually(ordered_workers.all_done)
    assert line.bad.id not in ids(after.applied)
    assert line.slow.id in ids(after.applied)
    assert [letter.event_id for letter in ordered_workers.letters.letters] == [str(line.bad.id)]


async def test_an_event_parked_before_others_are_told_the_position_is_not_run_again(
    ordered_workers: OrderedWorkers,
) -> None:
    """PostgreSQL's position is past it, and what Redis shows, where reading begins, is not."""
    [key] = keys_in(PARTITION, count=1)
    bad, later, last = (lead_created(partition_key=key) for _ in range(3))
    await add_events(ordered_workers.redis, [bad, later, last])
    before = Hangs(bad, last, PermanentError("not now", code="unfit"))
    async with _killed(ordered_workers, before, name="one"):
        pass
    after = Applies()
    async with ordered_workers.running(after, name="two"):
        await eventually(ordered_workers.all_done)
    assert ids(after.applied) == ids([later, last])


async def test_a_parked_event_is_forgotten_once_no_owner_can_read_it_again(
    ordered_workers: OrderedWorkers, line: Line, database: Database
) -> None:
    """However much there is to do meanwhile."""

    async def kept() -> int:
        async with database.connection() as connection:
            return int(await connection.fetchval("SELECT count(*) FROM leads.held_entry"))

    async def is_forgotten() -> bool:
        await add_events(ordered_workers.redis, [lead_created(partition_key=line.slow.key)])
        return not await kept()

    before = Hangs(line.bad, line.slow, PermanentError("not now", code="unfit"))
    async with _killed(ordered_workers, before, name="one"):
        assert (await kept(), await _held(ordered_workers)) == (1, 0)
    async with ordered_workers.running(Applies(), name="two"):
        await eventually(is_forgotten)


async def test_an_event_parked_by_an_heir_that_has_not_read_it_is_not_run_again(
    ordered_workers: OrderedWorkers, line: Line
) -> None:
    """Inherited as held, it ends before the stream is read: the position is before it for long."""
    async with _killed(
        ordered_workers, Hangs(line.bad, line.slow, TransientError("not yet")), name="one"
    ):
        assert await _held(ordered_workers) == 2
    heir = Hangs(line.bad, line.slow, TransientError("not yet"))
    async with _killed(ordered_workers, heir, name="two", most_held=2):
        pass
    assert ids(heir.applied, key=line.bad.key) == [line.later.id]
    after = Applies()
    async with ordered_workers.running(after, name="three"):
        await eventually(ordered_workers.all_done)
    assert line.bad.id not in ids(after.applied)
    assert line.slow.id in ids(after.applied)


async def _held(ordered_workers: OrderedWorkers) -> int:
    held = await ordered_workers.store.count_held(LEADS)
    return held.get((LEADS_DIVISION.last.number, PARTITION), 0)
