"""Everything that runs for one subscription in one process."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import timedelta

import structlog
from redis.asyncio import Redis

from shared.background import Backoff, end
from shared.domain.errors import UnavailableError
from shared.settings import ConsumerSettings, StreamsSettings
from shared.streams.connection import open_redis
from shared.streams.consuming.consumer import Consumer, Crowd, Slots
from shared.streams.consuming.group import Group
from shared.streams.consuming.health import Circuit, Patience, Progress
from shared.streams.consuming.housekeeping import HOUSEKEEP_EVERY, Housekeeping
from shared.streams.consuming.processor import Processor
from shared.streams.consuming.reclaimer import Reclaimer
from shared.streams.consuming.retry import RetryQueue
from shared.streams.consuming.settlement import DeadLetterStore, Settlement
from shared.streams.consuming.subscription import Subscription

log = structlog.get_logger(__name__)


class Worker:
    """A consumer with its reclaimer, retries and housekeeping; ends soon after `stop` is set."""

    def __init__(
        self,
        group: Group,
        consumer: Consumer,
        *,
        reclaimer: Reclaimer,
        retries: RetryQueue,
        housekeeping: Housekeeping,
        progress: Progress,
        settings: ConsumerSettings,
        patience: timedelta,
        stop: asyncio.Event,
    ) -> None:
        self._group = group
        self._consumer = consumer
        self._reclaimer = reclaimer
        self._retries = retries
        self._housekeeping = housekeeping
        self._progress = progress
        self._settings = settings
        self._patience = patience
        self._stop = stop

    @property
    def stream(self) -> str:
        """The stream that is consumed."""
        return self._group.stream

    async def check(self) -> None:
        """Raise `UnavailableError` when the consumer does not move."""
        trouble = self._progress.trouble(patience=self._patience)
        if trouble is not None:
            raise UnavailableError(trouble)

    async def run(self) -> None:
        """Consume until stopped, then drain: what does not end in time is handed back."""
        async with asyncio.TaskGroup() as tasks:
            chores = [
                tasks.create_task(self._every(span, chore), name=chore.__name__)
                for chore, span in self._chores()
            ]
            consuming = tasks.create_task(self._consume(), name=f"consume {self._group.stream}")
            await self._stop.wait()
            deadline = self._settings.shutdown_deadline.total_seconds()
            await asyncio.wait([consuming], timeout=deadline)
            for task in (consuming, *chores):
                await end(task)
        await self._leave()

    def _chores(self) -> list[tuple[Callable[[], Awaitable[None]], timedelta]]:
        lease = self._settings.stream_lease
        return [
            (self._consumer.keep, lease / 3),
            (self._reclaim, lease / 4),
            (self._move_due, MOVE_EVERY),
            (self._housekeeping.run, HOUSEKEEP_EVERY),
        ]

    async def _consume(self) -> None:
        await self._until_available(self._group.ensure)
        await self._consumer.run()

    async def _reclaim(self) -> None:
        # The lease is over for more than one page: go on while there is something to claim.
        while await self._reclaimer.reclaim():
            pass

    async def _move_due(self) -> None:
        while await self._retries.move_due():
            pass

    async def _every(self, span: timedelta, chore: Callable[[], Awaitable[None]]) -> None:
        while not self._stop.is_set():
            await asyncio.sleep(span.total_seconds())
            try:
                await chore()
            except UnavailableError as error:
                log.warning("chore.unavailable", chore=chore.__name__, error=str(error))

    async def _until_available(self, call: Callable[[], Awaitable[None]]) -> None:
        backoff = Backoff()
        while not self._stop.is_set():
            try:
                await call()
            except UnavailableError as error:
                self._progress.hold("reading", str(error))
                await asyncio.sleep(backoff.next())
            else:
                self._progress.release("reading")
                return

    async def _leave(self) -> None:
        try:
            await self._consumer.hand_back()
            await self._group.leave()
        except UnavailableError as error:
            # The lease ends by itself, and with it this consumer's claim.
            log.warning("group.not_left", stream=self._group.stream, error=str(error))


# Joining the parts of a worker, for each subscription of a process.


@contextlib.asynccontextmanager
async def open_workers(
    writer: Redis,
    subscriptions: Sequence[Subscription],
    *,
    streams: StreamsSettings,
    dead_letters: DeadLetterStore,
    settings: ConsumerSettings,
    name: str,
    stop: asyncio.Event,
) -> AsyncGenerator[list[Worker]]:
    """Yield a worker for each subscription, each with a connection of its own for reading."""
    async with contextlib.AsyncExitStack() as stack:
        workers: list[Worker] = []
        crowd = Crowd()
        for subscription in subscriptions:
            reading = open_redis(streams, block=settings.stream_block)
            reader = await stack.enter_async_context(reading)
            group = Group(
                writer, reader, stream=subscription.stream, group=subscription.group, consumer=name
            )
            housekeeping = Housekeeping(
                writer,
                streams=[subscription.stream, *subscription.also_trims],
                retention=settings.stream_retention,
                max_bytes=streams.stream_max_bytes,
                name=name,
            )
            workers.append(
                _assemble(
                    writer,
                    group,
                    subscription,
                    dead_letters=dead_letters,
                    housekeeping=housekeeping,
                    crowd=Crowd() if subscription.waits_for_others else crowd,
                    settings=settings,
                    stop=stop,
                )
            )
        yield workers


def _assemble(
    writer: Redis,
    group: Group,
    subscription: Subscription,
    *,
    dead_letters: DeadLetterStore,
    housekeeping: Housekeeping,
    crowd: Crowd,
    settings: ConsumerSettings,
    stop: asyncio.Event,
) -> Worker:
    progress = Progress()
    circuit = Circuit()
    patience = Patience(progress, stop)
    retries = RetryQueue(writer, stream=group.stream, group=group.name)
    settlement = Settlement(writer, group, dead_letters=dead_letters, patience=patience)
    processor = Processor(
        subscription,
        settlement,
        retries=retries,
        max_attempts=settings.stream_max_attempts,
        circuit=circuit,
        patience=patience,
    )
    consumer = Consumer(
        group,
        subscription,
        processor,
        slots=Slots(subscription.concurrency),
        crowd=crowd,
        circuit=circuit,
        progress=progress,
        stop=stop,
        settings=settings,
    )
    reclaimer = Reclaimer(group, subscription, consumer, settlement, crowd=crowd, settings=settings)
    return Worker(
        group,
        consumer,
        reclaimer=reclaimer,
        retries=retries,
        housekeeping=housekeeping,
        progress=progress,
        settings=settings,
        # A handler may rightly take up to its deadline, in every place at once.
        patience=subscription.deadline + settings.stream_block * 5,
        stop=stop,
    )


MOVE_EVERY = timedelta(milliseconds=500)
