"""Workers whose handlers a test passes in, on a real Redis; dead letters stay in memory."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import timedelta
from uuid import UUID

from redis.asyncio import Redis

from shared.events import catalog
from shared.events.data import SummaryRequested
from shared.events.dead_letter import DeadLetter
from shared.events.envelope import Event
from shared.events.outcome import Outcome, OutcomeStatus
from shared.settings import ConsumerSettings, StreamsSettings
from shared.streams.consuming.subscription import Handler, Subscription
from shared.streams.consuming.worker import PARTS, Parts
from shared.streams.workers import AnyWorker, open_workers

DONE = Outcome(OutcomeStatus.CREATED)


BLOCK = timedelta(milliseconds=100)


class KeepsLetters:
    """A dead-letter store in memory."""

    def __init__(self) -> None:
        self.letters: list[DeadLetter] = []

    async def add_letter(self, letter: DeadLetter) -> None:
        self.letters.append(letter)


def hasty_settings(
    *, lease: timedelta, max_attempts: int, block: timedelta = BLOCK
) -> ConsumerSettings:
    """Return settings of consumers that neither wait for entries for long nor end slowly."""
    return ConsumerSettings(
        stream_lease=lease,
        stream_block=block,
        stream_max_attempts=max_attempts,
        shutdown_deadline=timedelta(seconds=1),
    )


class Workers:
    """Runs workers of the `summarizer` group on `stream:summaries`."""

    def __init__(self, redis: Redis, streams: StreamsSettings) -> None:
        self.redis = redis
        self.letters = KeepsLetters()
        self._streams = streams

    @contextlib.asynccontextmanager
    async def running(
        self,
        handler: Handler,
        *,
        name: str = "summarizer:test:1",
        batch: int = 10,
        concurrency: int = 1,
        settled: Callable[[UUID], Awaitable[bool]] | None = None,
        lease: timedelta = timedelta(milliseconds=400),
        max_attempts: int = 3,
        parts: Parts = PARTS,
    ) -> AsyncGenerator[AnyWorker]:
        """Run a worker for the length of the block; then it finishes what it has begun."""

        async def never(_event_id: UUID) -> bool:
            return False

        subscription = Subscription(
            stream=catalog.SUMMARIES,
            group=catalog.SUMMARIZER,
            handlers={SummaryRequested.type: handler},
            is_settled=settled or never,
            batch=batch,
            concurrency=concurrency,
        )
        settings = hasty_settings(lease=lease, max_attempts=max_attempts)
        stop = asyncio.Event()
        opening = open_workers(
            self.redis,
            [subscription],
            streams=self._streams,
            dead_letters=self.letters,
            settings=settings,
            name=name,
            stop=stop,
            parts=parts,
        )
        async with opening as [worker], asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.run(), name="worker")
            try:
                yield worker
            finally:
                stop.set()

    async def pending(self) -> int:
        """Return how many entries are delivered and not acknowledged."""
        return int((await self.redis.xpending(catalog.SUMMARIES, catalog.SUMMARIZER))["pending"])

    async def all_done(self) -> bool:
        """Return whether the group has read and acknowledged everything."""
        groups = await self.redis.xinfo_groups(catalog.SUMMARIES)
        return [(group["lag"], group["pending"]) for group in groups] == [(0, 0)]


class Recorder:
    """A handler that notes the batches it gets."""

    def __init__(self) -> None:
        self.batches: list[list[Event]] = []

    async def __call__(self, events: Sequence[Event]) -> list[Outcome]:
        self.batches.append(list(events))
        return [DONE for _ in events]

    @property
    def events(self) -> list[Event]:
        return [event for batch in self.batches for event in batch]
