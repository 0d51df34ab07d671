"""6. An event that can never succeed is parked, and can be put back."""

from collections.abc import Sequence

from shared.domain.errors import PermanentError
from shared.events.envelope import Event
from shared.events.outcome import Outcome, OutcomeStatus
from shared.streams.ordering.layout import Divisions
from shared.streams.publisher import add_events, requeue_letters
from tests.support.builders import summary_requested
from tests.support.eventually import eventually
from tests.support.workers import Workers


async def test_dead_letter(workers: Workers) -> None:
    event = summary_requested()
    await add_events(workers.redis, [event])

    async def refuses(_events: Sequence[Event]) -> Sequence[Outcome]:
        # "No retry will help." The code says why, for programs.
        raise PermanentError("the city does not exist", code="unknown-city")

    async with workers.running(refuses):
        await eventually(workers.all_done)

    # The event is acknowledged, so it holds up no other. The letter keeps all of it: in the
    # product in PostgreSQL, in this test in memory.
    [letter] = workers.letters.letters
    assert letter.event_id == str(event.id)
    assert letter.reason == "unknown-city"

    # Once the cause is gone, an operator puts it back. It is a first attempt again.
    handled: list[Event] = []

    async def accepts(events: Sequence[Event]) -> Sequence[Outcome]:
        handled.extend(events)
        return [Outcome(OutcomeStatus.CREATED) for _ in events]

    await requeue_letters(workers.redis, [letter], Divisions(workers.redis))
    async with workers.running(accepts):
        await eventually(workers.all_done)

    assert [(one.id, one.attempt) for one in handled] == [(event.id, 1)]
