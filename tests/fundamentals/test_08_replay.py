"""8. Past events are put back for one group."""

import asyncio
from collections.abc import Sequence

from shared.events import catalog
from shared.events.envelope import Event
from shared.events.outcome import Outcome, OutcomeStatus
from shared.events.replay import ReplayOrder, ReplayOrigin
from shared.streams.consuming.group import last_entry
from shared.streams.publisher import add_events
from shared.streams.replays.jobs import ReplayJobs
from shared.streams.replays.replayer import Replayer
from shared.streams.replays.stream_source import StreamSource
from shared.streams.replays.tally import ReplayResult
from tests.support.builders import summary_requested
from tests.support.eventually import eventually
from tests.support.workers import Workers


async def test_replay(workers: Workers) -> None:
    redis = workers.redis
    sent = [summary_requested() for _ in range(3)]
    await add_events(redis, sent)
    handled: list[Event] = []

    async def handler(events: Sequence[Event]) -> Sequence[Outcome]:
        # The product looks the event's id up in PostgreSQL and sees that it was applied.
        known = {event.id for event in handled}
        handled.extend(events)
        return [Outcome(OutcomeStatus.CREATED, repeated=event.id in known) for event in events]

    async with workers.running(handler):
        await eventually(workers.all_done)
        assert handled == sent

        # An acknowledged entry stays in the stream until it is too old. A replay reads what
        # was there when it began, and adds it again for one group.
        newest = await last_entry(redis, catalog.SUMMARIES)
        assert newest is not None
        order = ReplayOrder(
            origin=ReplayOrigin.STREAM,
            stream=catalog.SUMMARIES,
            group=catalog.SUMMARIZER,
            last="{}-{}".format(*newest),
        )
        await ReplayJobs(redis).save(order)
        replayer = Replayer(redis, order, StreamSource(redis, order), stop=asyncio.Event())
        progress = await replayer.run()

    # The same events under the same ids, and the group's own report of what they changed.
    replayed = handled[len(sent) :]
    assert [event.id for event in replayed] == [event.id for event in sent]
    assert {event.replay_id for event in replayed} == {order.id}
    assert progress.results == {ReplayResult.ALREADY_APPLIED: 3}
