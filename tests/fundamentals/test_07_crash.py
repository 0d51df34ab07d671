"""7. The entries of a dead worker are taken over, and applied once."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from shared.events import catalog
from shared.events.envelope import Event
from shared.events.outcome import Outcome, OutcomeStatus
from shared.redis_connections import open_redis
from shared.settings import StreamsSettings
from shared.streams.consuming.group import Group
from shared.streams.publisher import add_events
from tests.support.builders import summary_requested
from tests.support.eventually import eventually
from tests.support.workers import Workers

LEASE = timedelta(milliseconds=200)


async def test_crash(workers: Workers, streams_settings: StreamsSettings) -> None:
    event = summary_requested()
    await add_events(workers.redis, [event])

    # A worker reads the event and dies: it never acknowledges.
    async with open_redis(streams_settings, block=LEASE) as reader:
        group = Group(
            workers.redis,
            reader,
            stream=catalog.SUMMARIES,
            group=catalog.SUMMARIZER,
            consumer="dead",
        )
        await group.ensure()
        assert len(await group.read(count=10, block=LEASE)) == 1
    assert await workers.pending() == 1

    # A pending entry belongs to its worker for as long as the lease. A living worker renews
    # it while a handler runs; a dead one does not, and another worker claims the entry.
    applied: dict[UUID, Event] = {}

    async def handler(events: Sequence[Event]) -> Sequence[Outcome]:
        # The dead worker may have applied the event and not got to acknowledge it. So what
        # is applied is kept by the event's id: a second delivery changes nothing.
        applied.update((one.id, one) for one in events)
        return [Outcome(OutcomeStatus.CREATED) for _ in events]

    async with workers.running(handler, lease=LEASE):
        await eventually(workers.all_done)

    assert list(applied) == [event.id]
