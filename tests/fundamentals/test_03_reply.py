"""3. A client waits for the outcome of its event."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from shared.background import background
from shared.events.envelope import Event
from shared.events.outcome import Outcome, OutcomeStatus
from shared.redis_connections import open_redis
from shared.settings import StreamsSettings
from shared.streams.publisher import add_events
from shared.streams.replies import Replies
from tests.support.builders import summary_requested
from tests.support.workers import Workers

BLOCK = timedelta(milliseconds=100)


async def test_reply(workers: Workers, streams_settings: StreamsSettings) -> None:
    async def handler(events: Sequence[Event]) -> Sequence[Outcome]:
        return [Outcome(OutcomeStatus.CREATED, b'{"version":1}') for _ in events]

    async with (
        workers.running(handler),
        # Each process that asks reads replies from a stream of its own.
        open_redis(streams_settings, block=BLOCK) as reader,
    ):
        replies = Replies(reader, instance="tutorial", block=BLOCK)
        async with background(replies.run(), name="replies"):
            # The event carries the address. Expect the reply first, then publish.
            event = summary_requested(reply_to=replies.address)
            with replies.expect(event.id) as reply:
                await add_events(workers.redis, [event])
                outcome = await asyncio.wait_for(reply, 5)

    # That is how `POST /leads` answers 201 with the lead, though another process wrote it.
    assert outcome == Outcome(OutcomeStatus.CREATED, b'{"version":1}')
