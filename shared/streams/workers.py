"""The workers of a process: one for each subscription."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from redis.asyncio import Redis

from shared.events.catalog import ORDERED
from shared.observability.outages import Outages
from shared.redis_connections import open_redis
from shared.settings import ConsumerSettings, StreamsSettings
from shared.streams.consuming.consumer import RWLock
from shared.streams.consuming.housekeeping import Housekeeping
from shared.streams.consuming.settlement import DeadLetterStore
from shared.streams.consuming.subscription import Subscription
from shared.streams.consuming.worker import PARTS, Parts, Worker
from shared.streams.ordering.worker import Clients, Ordering, PartitionWorker, Undivided

AnyWorker: TypeAlias = Worker | PartitionWorker


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
    ordering: Ordering | None = None,
    parts: Parts = PARTS,
) -> AsyncGenerator[list[AnyWorker]]:
    """Yield a worker for each subscription, each with a connection of its own for reading.

    They end soon after `stop` is set. `name` is the process's, new with every start. With
    `ordering` it shares ordered streams with others like it.
    """
    opening = _Opening(writer, streams, dead_letters, settings, name, parts, Outages())
    async with contextlib.AsyncExitStack() as stack:
        workers: list[AnyWorker] = []
        lock = RWLock()
        for subscription in subscriptions:
            reader = await stack.enter_async_context(
                open_redis(streams, block=settings.stream_block)
            )
            shared = RWLock() if subscription.waits_for_others else lock
            if ordering is not None and subscription.stream in ORDERED:
                workers.append(opening.ordered(reader, subscription, ordering, shared, stop))
            else:
                workers.append(opening.unordered(reader, subscription, shared, stop, ordering))
        yield workers


@dataclass(frozen=True, slots=True)
class _Opening:
    """What all workers of a process have in common."""

    writer: Redis
    streams: StreamsSettings
    dead_letters: DeadLetterStore
    settings: ConsumerSettings
    name: str
    parts: Parts
    outages: Outages

    def unordered(
        self,
        reader: Redis,
        subscription: Subscription,
        lock: RWLock,
        stop: asyncio.Event,
        ordering: Ordering | None,
    ) -> Worker:
        group = self.parts.group(
            self.writer,
            reader,
            stream=subscription.stream,
            group=subscription.group,
            consumer=self.name,
        )
        return Worker(
            self.writer,
            group,
            subscription,
            dead_letters=self.dead_letters,
            housekeeping=self._housekeeping(subscription, ordering),
            lock=lock,
            settings=self.settings,
            stop=stop,
            parts=self.parts,
        )

    def ordered(
        self,
        reader: Redis,
        subscription: Subscription,
        ordering: Ordering,
        lock: RWLock,
        stop: asyncio.Event,
    ) -> PartitionWorker:
        drained = asyncio.Event()
        return PartitionWorker(
            Clients(self.writer, reader),
            subscription,
            ordering,
            undivided=Undivided(
                self.unordered(reader, subscription, lock, drained, ordering), drained
            ),
            dead_letters=self.dead_letters,
            housekeeping=self._housekeeping(subscription, ordering),
            lock=lock,
            settings=self.settings,
            stop=stop,
        )

    def _housekeeping(self, subscription: Subscription, ordering: Ordering | None) -> Housekeeping:
        return Housekeeping(
            self.writer,
            None if ordering is None else ordering.divisions,
            streams=[subscription.stream, *subscription.also_trims],
            retention=self.settings.stream_retention,
            max_bytes=self.streams.stream_max_bytes,
            name=self.name,
            outages=self.outages,
        )
