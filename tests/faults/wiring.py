"""A worker out of the product's parts, some of which a test replaces by others."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from redis.asyncio import Redis

from shared.settings import ConsumerSettings, StreamsSettings
from shared.streams.connection import open_redis
from shared.streams.consuming.consumer import Consumer, Crowd, Slots
from shared.streams.consuming.group import Group
from shared.streams.consuming.health import Circuit, Patience, Progress
from shared.streams.consuming.housekeeping import Housekeeping
from shared.streams.consuming.processor import Processor
from shared.streams.consuming.reclaimer import Reclaimer
from shared.streams.consuming.retry import RetryQueue
from shared.streams.consuming.settlement import DeadLetterStore, Settlement
from shared.streams.consuming.subscription import Subscription
from shared.streams.consuming.worker import Worker


class MakesGroup(Protocol):
    """Makes a group, as its class does."""

    def __call__(
        self, writer: Redis, reader: Redis, *, stream: str, group: str, consumer: str
    ) -> Group: ...


class MakesSettlement(Protocol):
    """Makes a settlement, as its class does."""

    def __call__(
        self, redis: Redis, group: Group, *, dead_letters: DeadLetterStore, patience: Patience
    ) -> Settlement: ...


class MakesReclaimer(Protocol):
    """Makes a reclaimer, as its class does."""

    def __call__(
        self,
        group: Group,
        subscription: Subscription,
        consumer: Consumer,
        settlement: Settlement,
        *,
        crowd: Crowd,
        settings: ConsumerSettings,
    ) -> Reclaimer: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What makes the replaceable parts of a worker: the product, unless told otherwise."""

    group: MakesGroup = Group
    settlement: MakesSettlement = Settlement
    reclaimer: MakesReclaimer = Reclaimer


@asynccontextmanager
async def open_worker(
    writer: Redis,
    subscription: Subscription,
    *,
    streams: StreamsSettings,
    dead_letters: DeadLetterStore,
    settings: ConsumerSettings,
    name: str,
    stop: asyncio.Event,
    parts: Parts,
) -> AsyncGenerator[Worker]:
    """Yield a worker joined as `shared.streams.consuming.worker` joins one."""
    progress, circuit, crowd = Progress(), Circuit(), Crowd()
    patience = Patience(progress, stop)
    async with open_redis(streams, block=settings.stream_block) as reader:
        group = parts.group(
            writer, reader, stream=subscription.stream, group=subscription.group, consumer=name
        )
        retries = RetryQueue(writer, stream=group.stream, group=group.name)
        settlement = parts.settlement(writer, group, dead_letters=dead_letters, patience=patience)
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
        yield Worker(
            group,
            consumer,
            reclaimer=parts.reclaimer(
                group, subscription, consumer, settlement, crowd=crowd, settings=settings
            ),
            retries=retries,
            housekeeping=_housekeeping(writer, subscription, streams, settings, name),
            progress=progress,
            settings=settings,
            patience=subscription.deadline,
            stop=stop,
        )


def _housekeeping(
    writer: Redis,
    subscription: Subscription,
    streams: StreamsSettings,
    settings: ConsumerSettings,
    name: str,
) -> Housekeeping:
    return Housekeeping(
        writer,
        streams=[subscription.stream],
        retention=settings.stream_retention,
        max_bytes=streams.stream_max_bytes,
        name=name,
    )
