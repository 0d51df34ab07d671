"""Joining the parts of a worker, for each subscription of a process."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence

from redis.asyncio import Redis

from shared.settings import ConsumerSettings, StreamsSettings
from shared.streams.circuit import Circuit
from shared.streams.connection import open_redis
from shared.streams.consumer import Consumer
from shared.streams.crowd import Crowd
from shared.streams.dead_letters import DeadLetterStore
from shared.streams.group import Group
from shared.streams.housekeeping import Housekeeping
from shared.streams.patience import Patience
from shared.streams.processor import Processor
from shared.streams.progress import Progress
from shared.streams.reclaimer import Reclaimer
from shared.streams.retry import RetryQueue
from shared.streams.settlement import Settlement
from shared.streams.slots import Slots
from shared.streams.subscription import Subscription
from shared.streams.worker import Worker


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
