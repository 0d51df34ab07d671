"""2. A worker hands events to a handler, then acknowledges them."""

from collections.abc import Sequence

from shared.events.envelope import Event
from shared.events.outcome import Outcome, OutcomeStatus
from shared.streams.publisher import add_events
from tests.support.builders import summary_requested
from tests.support.eventually import eventually
from tests.support.workers import Workers


async def test_consume(workers: Workers) -> None:
    event = summary_requested()
    await add_events(workers.redis, [event])

    # A handler gets events of one type and returns an outcome for each.
    handled: list[Event] = []

    async def handler(events: Sequence[Event]) -> Sequence[Outcome]:
        handled.extend(events)
        return [Outcome(OutcomeStatus.CREATED) for _ in events]

    # A worker is one process's member of a consumer group. It reads, calls, acknowledges.
    # The event was published before the worker started: the stream kept it.
    async with workers.running(handler):
        await eventually(workers.all_done)

    assert handled == [event]
    # Acknowledged: the event is not pending any more, and no other worker will get it.
    assert await workers.pending() == 0
