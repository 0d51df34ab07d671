"""4. A handler gets what is waiting as one batch, in order."""

from collections.abc import Sequence

from shared.domain.errors import TransientError
from shared.events.envelope import Event
from shared.events.outcome import Outcome, OutcomeStatus
from shared.streams.publisher import add_events
from tests.support.builders import summary_requested
from tests.support.eventually import eventually
from tests.support.workers import Workers


async def test_batch(workers: Workers) -> None:
    sent = [summary_requested() for _ in range(25)]
    await add_events(workers.redis, sent)
    batches: list[Sequence[Event]] = []

    async def handler(events: Sequence[Event]) -> Sequence[Outcome]:
        batches.append(events)
        return [Outcome(OutcomeStatus.CREATED) for _ in events]

    async with workers.running(handler, batch=10):
        await eventually(workers.all_done)

    # One transaction for ten events costs little more than one for one event.
    assert [len(batch) for batch in batches] == [10, 10, 5]
    assert [event for batch in batches for event in batch] == sent


async def test_a_failed_batch_is_tried_one_by_one(workers: Workers) -> None:
    sent = [summary_requested() for _ in range(3)]
    await add_events(workers.redis, sent)
    sizes: list[int] = []

    async def handler(events: Sequence[Event]) -> Sequence[Outcome]:
        sizes.append(len(events))
        if len(events) > 1:
            raise TransientError("one of these is in the way")
        return [Outcome(OutcomeStatus.CREATED)]

    async with workers.running(handler, batch=10):
        await eventually(workers.all_done)

    # So no event fails because of its neighbours.
    assert sizes == [3, 1, 1, 1]
