"""5. The error that a handler raises decides what happens next."""

from collections.abc import Sequence

from shared.domain.errors import TransientError, UnavailableError
from shared.events.envelope import Event
from shared.events.outcome import Outcome, OutcomeStatus
from shared.streams.publisher import add_events
from tests.support.builders import summary_requested
from tests.support.eventually import eventually
from tests.support.workers import Workers


async def test_retry(workers: Workers) -> None:
    await add_events(workers.redis, [summary_requested()])
    attempts: list[int] = []

    async def handler(events: Sequence[Event]) -> Sequence[Outcome]:
        attempts.append(events[0].attempt)
        if attempts == [1]:
            # "Try this event again later." It waits in a sorted set outside the stream, so
            # that other events go on, and comes back as the second attempt.
            raise TransientError("a deadlock")
        return [Outcome(OutcomeStatus.CREATED)]

    async with workers.running(handler):

        async def is_done() -> bool:
            return len(attempts) == 2 and await workers.all_done()

        await eventually(is_done)

    assert attempts == [1, 2]


async def test_an_outage_costs_no_attempt(workers: Workers) -> None:
    await add_events(workers.redis, [summary_requested()])
    attempts: list[int] = []

    async def handler(events: Sequence[Event]) -> Sequence[Outcome]:
        attempts.append(events[0].attempt)
        if len(attempts) < 4:
            # "A dependency is down." That is not the event's fault: the worker waits and
            # calls again, for as long as it takes.
            raise UnavailableError("PostgreSQL is down")
        return [Outcome(OutcomeStatus.CREATED)]

    async with workers.running(handler):
        await eventually(workers.all_done)

    assert attempts == [1, 1, 1, 1]
