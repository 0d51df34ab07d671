"""When nearly everything fails, nothing is parked and reading waits."""

from collections.abc import Sequence

from shared.domain.errors import PermanentError, UnavailableError
from shared.events.envelope import Event
from shared.events.outcome import Outcome, OutcomeStatus
from shared.streams.consuming.health import FEWEST
from shared.streams.publisher import add_events
from tests.support.builders import summary_requested
from tests.support.eventually import eventually
from tests.support.workers import Workers


async def test_a_bad_deployment_does_not_drain_the_stream_into_the_dead_letters(
    workers: Workers,
) -> None:
    healthy = False
    applied: set[str] = set()

    async def handler(events: Sequence[Event]) -> list[Outcome]:
        if not healthy:
            raise PermanentError("a bug of ours", code="bug")
        applied.update(str(event.id) for event in events)
        return [Outcome(OutcomeStatus.CREATED) for _ in events]

    sent = [summary_requested() for _ in range(FEWEST * 3)]
    await add_events(workers.redis, sent)
    async with workers.running(handler, batch=5) as worker:

        async def is_unready() -> bool:
            try:
                await worker.check()
            except UnavailableError as error:
                return "nearly every event fails" in str(error)
            return False

        await eventually(is_unready)
        assert len(workers.letters.letters) < FEWEST
        healthy = True
        await add_events(workers.redis, [summary_requested()])

        async def is_ready() -> bool:
            return not await is_unready() and len(applied) > len(sent) - FEWEST * 2

        await eventually(is_ready)
    # What failed while the circuit was open waits for its retry, no attempt used up.
    assert len(workers.letters.letters) < FEWEST
