"""Syncers in several roles: `python -m tests.faults.forked_syncers ROLE` is one.

`... ROLE NUMBER` forks that many and starts them again whenever they die; they end with it.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import uvloop
from redis.asyncio import Redis

from services.syncer.app import main
from services.syncer.bootstrap import bootstrap
from services.syncer.settings import SyncerSettings
from shared.lifecycle import instance_name, stop_signal
from shared.observability.logging import configure_logging
from shared.storage.partitions import PartitionRepository
from shared.storage.pool import Database
from shared.streams.consuming.subscription import Handler
from shared.streams.ordering.consumer import PartitionConsumer
from shared.streams.ordering.ownership import Ownership
from shared.streams.ordering.worker import Ordering
from shared.streams.workers import open_workers
from tests.faults.defects import CountsCrashesOfAll, TakesNothingOver, Unfenced
from tests.faults.misfits import Deadly, Faltering, SleepsOnce
from tests.support.forking import fork

# Small, so that many batches have a killer and many mates of it are at stake.
BATCH = 20


def _as_it_is(handler: Handler, _redis: Redis) -> Handler:
    return handler


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What a syncer, of leads alone, has in the place of the product's parts.

    Without an order its readers share one group, and the stream is not divided.
    """

    wrap: Callable[[Handler, Redis], Handler] = _as_it_is
    store: Callable[[Database], PartitionRepository] = PartitionRepository
    consumer: type[PartitionConsumer] = PartitionConsumer
    ownership: type[Ownership] = Ownership
    is_ordered: bool = True

    def play(self) -> None:
        """Consume until SIGTERM, or until an event is the last."""
        uvloop.run(_consume(self))


async def _consume(role: Role) -> None:
    settings = SyncerSettings.load()
    configure_logging(settings.observability, service="syncer")
    name = instance_name("syncer")
    async with AsyncExitStack() as stack:
        stop = await stack.enter_async_context(stop_signal())
        context = await stack.enter_async_context(bootstrap(settings))
        subscription = context.subscriptions[0]
        handlers = {
            event_type: role.wrap(handler, context.redis)
            for event_type, handler in subscription.handlers.items()
        }
        ordering = Ordering(
            store=role.store(context.database),
            divisions=context.divisions,
            name=name,
            ownership=role.ownership,
            consumer=role.consumer,
        )
        [worker] = await stack.enter_async_context(
            open_workers(
                context.redis,
                [replace(subscription, handlers=handlers, batch=BATCH)],
                streams=settings.streams,
                dead_letters=context.dead_letters,
                settings=settings.consumer,
                name=name,
                stop=stop,
                ordering=ordering if role.is_ordered else None,
            )
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.run(), name="worker")


ROLES: dict[str, Callable[[], None]] = {
    "plain": lambda: uvloop.run(main()),
    "deadly": Role(wrap=Deadly).play,
    "naive": Role(wrap=Deadly, consumer=CountsCrashesOfAll).play,
    "faltering": Role(wrap=Faltering).play,
    "sharing": Role(wrap=Faltering, is_ordered=False).play,
    "sleepy": Role(wrap=SleepsOnce).play,
    "unfenced": Role(wrap=SleepsOnce, store=Unfenced).play,
    "alone": Role(ownership=TakesNothingOver).play,
}


def keep_running(number: int, run: Callable[[], None]) -> None:
    """Fork again and again, until SIGTERM ends this process and with it all others."""
    for _ in range(number):
        fork(run)
    while True:
        os.wait()
        fork(run)


if __name__ == "__main__":
    play, *number = ROLES[sys.argv[1]], *sys.argv[2:]
    if number:
        keep_running(int(number[0]), play)
    play()
