"""9. Applied changes go out on a stream that any reader may follow."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from shared.events.data import LeadChanged
from shared.events.envelope import Event
from shared.events.outcome import Outcome, OutcomeStatus
from shared.redis_connections import open_redis
from shared.settings import StreamsSettings
from shared.streams.change_feed import BEGINNING, ChangeFeed
from shared.streams.codec import Entry, decode
from shared.streams.ordering.layout import Divisions
from shared.streams.publisher import add_events, open_publisher
from tests.support.builders import summary_requested
from tests.support.eventually import eventually
from tests.support.workers import Workers

BLOCK = timedelta(milliseconds=100)


def lead_changed(lead_id: str) -> Event:
    data = LeadChanged(lead_id=UUID(lead_id), lead_version=1, change="created")
    return Event(source="tutorial", subject=lead_id, data=data)


async def test_changes(workers: Workers, streams_settings: StreamsSettings) -> None:
    async with (
        open_publisher(workers.redis, Divisions(workers.redis)) as publisher,
        open_redis(streams_settings, block=BLOCK) as reader,
    ):

        async def handler(events: Sequence[Event]) -> Sequence[Outcome]:
            # After the commit, and before the acknowledgement: a crash in between repeats
            # the notice and never loses it.
            for event in events:
                await publisher.publish(lead_changed(event.subject))
            return [Outcome(OutcomeStatus.CREATED) for _ in events]

        # No group consumes this stream: a process reads it once for all its followers.
        feed = ChangeFeed(workers.redis, reader, block=BLOCK)
        async with workers.running(handler):
            first = summary_requested()
            await add_events(workers.redis, [first])
            await eventually(workers.all_done)

            # Who comes late catches up from the last entry it saw, here from the beginning.
            history = await feed.page(after=BEGINNING)
            assert subjects(history) == [first.subject]

            # From then on it hears what comes.
            another = summary_requested()
            await add_events(workers.redis, [another])
            assert subjects(await news(feed, after=history[-1].id)) == [another.subject]


async def news(feed: ChangeFeed, *, after: str) -> Sequence[Entry]:
    async def probe() -> Sequence[Entry]:
        return await feed.next(after=after)

    return await eventually(probe)


def subjects(entries: Sequence[Entry]) -> list[str]:
    return [decode(entry.fields).subject for entry in entries]
