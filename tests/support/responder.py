"""A consumer that answers every event on a stream the way a test says."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from shared.background import background
from shared.events.envelope import Event
from shared.events.outcome import Outcome
from shared.streams.codec import decode, entries_of
from shared.streams.replies import Reply, add_replies

POLL_SECONDS = 0.01


class Responder:
    """Answers with `outcome`, or not at all while there is none. `events` are those seen."""

    def __init__(self, redis: Redis, *, stream: str) -> None:
        self.outcome: Outcome | None = None
        self.events: list[Event] = []
        self._redis = redis
        self._stream = stream

    @asynccontextmanager
    async def running(self) -> AsyncGenerator["Responder"]:
        """Answer for the length of the block."""
        async with background(self._run(), name=f"responder {self._stream}"):
            yield self

    async def _run(self) -> None:
        last = "-"
        while True:
            for entry in entries_of(await self._redis.xrange(self._stream, min=last)):
                last = f"({entry.id}"
                event = decode(entry.fields)
                self.events.append(event)
                await self.answer(event)
            await asyncio.sleep(POLL_SECONDS)

    async def answer(self, event: Event) -> None:
        """Answer an event, unless there is no outcome yet."""
        if self.outcome is None or event.reply_to is None:
            return
        async with self._redis.pipeline(transaction=False) as pipeline:
            add_replies(pipeline, [Reply(event.reply_to, event.id, self.outcome)])
            await pipeline.execute()
