"""Many events at once are applied side by side, by partitions, each lane for itself."""

import asyncio
from collections.abc import Sequence
from uuid import uuid4

import pytest

from shared.domain.errors import FencedError, PermanentError, TransientError
from shared.events.catalog import LEADS
from shared.events.envelope import Event
from shared.events.outcome import Outcome
from shared.events.partitions import Claim, Member
from shared.storage.pool import Database
from shared.streams.ordering.processor import LANES
from shared.streams.publisher import add_events
from tests.conftest import LEADS_DIVISION
from tests.support.eventually import eventually
from tests.support.keyed_events import events_of, ids
from tests.support.ordered_workers import OrderedWorkers
from tests.support.workers import DONE

LAYOUT = LEADS_DIVISION.last
KEYS = [f"key-{number}" for number in range(60)]
BATCH = 60


class Overlaps:
    """A handler that notes what is applied, and what is applied at the same time."""

    def __init__(self, errors: dict[str, Exception] | None = None) -> None:
        self.applied: list[Event] = []
        self.most = 0
        self._errors = errors or {}
        self._under_way: list[Sequence[Event]] = []

    async def __call__(self, events: Sequence[Event]) -> list[Outcome]:
        """Apply events a little later; fails with the first that has an error."""
        mine = {LAYOUT.partition_of(event.key) for event in events}
        others = [event for batch in self._under_way for event in batch]
        assert mine.isdisjoint(LAYOUT.partition_of(event.key) for event in others)
        self._under_way.append(events)
        self.most = max(self.most, len(self._under_way))
        for _ in range(5):
            await asyncio.sleep(0)
        self._under_way.remove(events)
        for event in events:
            if str(event.id) in self._errors:
                raise self._errors[str(event.id)]
        self.applied.extend(events)
        return [DONE for _ in events]


async def test_order_is_kept_in_lanes(ordered_workers: OrderedWorkers) -> None:
    lines = [events_of(key, 4) for key in KEYS]
    await add_events(
        ordered_workers.redis, [one for turn in zip(*lines, strict=True) for one in turn]
    )
    handler = Overlaps()
    async with ordered_workers.running(handler, batch=BATCH):
        await eventually(ordered_workers.all_done)
    assert handler.most == LANES
    assert len(handler.applied) == len(KEYS) * 4
    for line in lines:
        assert ids(handler.applied, key=line[0].key) == ids(line)


async def test_few_events_stay_together(ordered_workers: OrderedWorkers) -> None:
    await add_events(ordered_workers.redis, [one for key in KEYS for one in events_of(key, 1)])
    handler = Overlaps()
    async with ordered_workers.running(handler, batch=BATCH):
        await eventually(ordered_workers.all_done)
    assert (handler.most, len(handler.applied)) == (1, len(KEYS))


@pytest.mark.parametrize(
    ("error", "max_attempts"),
    [
        (TransientError("not now"), 1),
        (TransientError("not now"), 2),
        (PermanentError("never", code="test"), 2),
    ],
    ids=["transient", "transient twice", "permanent"],
)
async def test_what_fails_in_a_lane_holds_its_key_alone(
    error: Exception, max_attempts: int, ordered_workers: OrderedWorkers
) -> None:
    lines = [events_of(key, 2) for key in KEYS]
    bad = lines[7][0]
    await add_events(ordered_workers.redis, [one for line in lines for one in line])
    handler = Overlaps({str(bad.id): error})
    async with ordered_workers.running(handler, batch=BATCH, max_attempts=max_attempts):
        await eventually(ordered_workers.all_done)
    assert [letter.event_id for letter in ordered_workers.letters.letters] == [str(bad.id)]
    for line in lines:
        assert ids(handler.applied, key=line[0].key) == ids(one for one in line if one is not bad)


async def test_a_lost_partition_leaves_the_other_lane_alone(
    ordered_workers: OrderedWorkers, database: Database
) -> None:
    store, events = ordered_workers.store, [one for key in KEYS for one in events_of(key, 2)]
    begun, go_on, fenced = asyncio.Event(), asyncio.Event(), asyncio.Event()
    applied: list[Event] = []

    async def handler(batch: Sequence[Event]) -> list[Outcome]:
        begun.set()
        await go_on.wait()
        try:
            async with database.transaction():
                applied.extend(batch)
        except FencedError:
            fenced.set()
            raise
        return [DONE for _ in batch]

    await add_events(ordered_workers.redis, events)
    async with ordered_workers.running(handler, batch=BATCH):
        await asyncio.wait_for(begun.wait(), 5)
        number = LAYOUT.partition_of(KEYS[0])
        # Alive, or the worker would take the partition back at once.
        other = Member(uuid4(), "syncer:there:1", "there", "1")
        survey = await store.survey(LEADS, beat=other)
        [row] = [row for row in survey.partitions if row.number == number]
        claim = Claim(LEADS, LAYOUT.number, number, other.token, row.epoch + 1)
        assert await store.claim(claim, row) is not None
        go_on.set()
        await asyncio.wait_for(fenced.wait(), 5)
        await store.bury(other)
        await eventually(ordered_workers.all_done)
    assert sorted(ids(applied)) == sorted(ids(events))
    assert ordered_workers.letters.letters == []
