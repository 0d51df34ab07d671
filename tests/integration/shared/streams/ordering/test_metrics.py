"""What a consumer of partitions counts."""

from contextlib import ExitStack

from shared.domain.errors import PermanentError, TransientError
from shared.events.catalog import LEADS, SYNCER
from shared.streams.publisher import add_events
from tests.support.eventually import eventually
from tests.support.keyed_events import Fails, events_of, keys_in
from tests.support.metrics import grows, metric
from tests.support.ordered_workers import OrderedWorkers

ITS = {"stream": LEADS, "group": SYNCER}


async def test_each_end_of_an_event_is_counted(ordered_workers: OrderedWorkers) -> None:
    again, never = (events_of(key, 1)[0] for key in keys_in(0, count=2))
    fine = events_of("fine", 3)  # created, updated, created
    expected = [
        grows("leads_events_total", by=3, type="lead-created", result="applied", **ITS),
        grows("leads_events_total", by=1, type="lead-updated", result="applied", **ITS),
        grows("leads_events_total", by=2, type="lead-created", result="retried", **ITS),
        grows("leads_events_total", by=1, type="lead-created", result="parked", **ITS),
        grows("leads_event_wait_seconds_count", by=4, **ITS),
    ]
    handler = Fails(never, PermanentError("never", code="unfit"))
    late = Fails(again, TransientError("not yet"), times=2)
    with ExitStack() as stack:
        for one in expected:
            stack.enter_context(one)
        await add_events(ordered_workers.redis, [never, *fine])
        async with ordered_workers.running(handler):
            await eventually(ordered_workers.all_done)
            owned = metric("leads_partitions_owned", stream=LEADS)
            assert metric("leads_loop_age_seconds", stream=LEADS) < 5
        await add_events(ordered_workers.redis, [again])
        async with ordered_workers.running(late):
            await eventually(ordered_workers.all_done)
    assert owned > 1
    assert metric("leads_circuit_open", **ITS) == 0


async def test_partitions_of_a_dead_process_are_counted(ordered_workers: OrderedWorkers) -> None:
    handler = Fails(events_of("none", 1)[0])
    async with ordered_workers.running(handler, name="one") as one:
        await eventually(_owns_all)
        await one.kill()
    with grows("leads_takeovers_total", by=3, stream=LEADS):
        async with ordered_workers.running(handler, name="two"):
            await eventually(_owns_all)


async def _owns_all() -> bool:
    return metric("leads_partitions_owned", stream=LEADS) == 3
