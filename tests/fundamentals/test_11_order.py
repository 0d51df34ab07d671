"""11. Events of one key are applied in their order, however many workers there are."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from shared.domain.errors import TransientError
from shared.events.envelope import Event
from shared.events.outcome import Outcome, OutcomeStatus
from shared.streams.publisher import add_events
from tests.support.builders import lead_created, lead_deleted, lead_updated
from tests.support.eventually import eventually
from tests.support.ordered_workers import OrderedWorkers


def events_of_one_lead(city: str) -> list[Event]:
    """Return events that only make sense in this order. They share a partition key."""
    created = lead_created(partition_key=city)
    lead_id = created.subject
    return [
        created,
        lead_updated(lead_id, city=city, partition_key=city),
        lead_deleted(lead_id, partition_key=city),
    ]


def ids(events: Iterable[Event]) -> list[UUID]:
    return [event.id for event in events]


async def test_order(ordered_workers: OrderedWorkers) -> None:
    london, paris = events_of_one_lead("London"), events_of_one_lead("Paris")
    await add_events(ordered_workers.redis, [*london, *paris])
    applied: list[Event] = []

    async def handler(events: Sequence[Event]) -> Sequence[Outcome]:
        applied.extend(events)
        return [Outcome(OutcomeStatus.UPDATED) for _ in events]

    # The key decides the partition, and a partition has one owner at a time: only one of these
    # two workers is at the events of London. Who owns what is kept in PostgreSQL.
    async with (
        ordered_workers.running(handler, name="one"),
        ordered_workers.running(handler, name="two"),
    ):
        await eventually(ordered_workers.all_done)

    assert ids(event for event in applied if event.key == "London") == ids(london)
    assert ids(event for event in applied if event.key == "Paris") == ids(paris)


async def test_a_key_that_fails_is_held_and_others_go_on(ordered_workers: OrderedWorkers) -> None:
    london, paris = events_of_one_lead("London"), events_of_one_lead("Paris")
    await add_events(ordered_workers.redis, [*london, *paris])
    applied: list[Event] = []

    async def handler(events: Sequence[Event]) -> Sequence[Outcome]:
        if any(event.id == london[0].id and event.attempt == 1 for event in events):
            # "Try this event again later." Until then nothing of its key is applied: what is
            # behind it waits with it, in PostgreSQL. A lead cannot change before it is made.
            raise TransientError("a deadlock")
        applied.extend(events)
        return [Outcome(OutcomeStatus.UPDATED) for _ in events]

    async with ordered_workers.running(handler):
        await eventually(ordered_workers.all_done)

    # Paris did not wait for London, and London is in order all the same.
    assert ids(applied) == ids([*paris, *london])
