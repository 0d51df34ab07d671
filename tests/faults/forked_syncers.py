"""Syncers that are started again whenever they die: `python -m ... NUMBER ROLE`.

Forked from one process, which ends them all on SIGTERM. Roles:

- `plain`: the product's own.
- `deadly`: leads of some names kill the process that handles them, or fail.
- `naive`: deadly, with a reclaimer as it is usually written.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import cast

import uvloop

from services.syncer.app import main
from services.syncer.bootstrap import bootstrap
from services.syncer.settings import SyncerSettings
from shared.domain.errors import PermanentError, TransientError
from shared.events.data import LeadCreated
from shared.events.envelope import Event
from shared.events.outcome import Outcome
from shared.lifecycle import instance_name, stop_signal
from shared.observability.logging import configure_logging
from shared.streams.consuming.reclaimer import Reclaimer
from shared.streams.consuming.subscription import Handler
from shared.streams.consuming.worker import Parts, open_workers
from tests.faults.defects import NaiveReclaimer
from tests.faults.forking import fork

KILLER, UNFIT, FAILING = "Killer", "Unfit", "Failing"
POISON = (KILLER, UNFIT, FAILING)
# Small, so that many batches have a killer and many mates of it are at stake.
BATCH = 20
CONCURRENCY = 4


class Deadly:
    """A handler that does not survive some events."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def __call__(self, events: Sequence[Event]) -> Sequence[Outcome]:
        names = {cast("LeadCreated", event.data).lead.first_name for event in events}
        if KILLER in names:
            os.kill(os.getpid(), signal.SIGKILL)
        if UNFIT in names:
            raise PermanentError("never", code="unfit")
        if FAILING in names:
            raise TransientError("not now")
        return await self._handler(events)


async def consume(*, naive: bool) -> None:
    """Consume leads until SIGTERM, or until an event is the last."""
    settings = SyncerSettings.load()
    configure_logging(settings.observability, service="syncer")
    async with AsyncExitStack() as stack:
        stop = await stack.enter_async_context(stop_signal())
        context = await stack.enter_async_context(bootstrap(settings))
        subscription = context.subscriptions[0]
        handlers = {LeadCreated.type: Deadly(subscription.handlers[LeadCreated.type])}
        deadly = replace(subscription, handlers=handlers, batch=BATCH, concurrency=CONCURRENCY)
        [worker] = await stack.enter_async_context(
            open_workers(
                context.redis,
                [deadly],
                streams=settings.streams,
                dead_letters=context.dead_letters,
                settings=settings.consumer,
                name=instance_name("syncer"),
                stop=stop,
                parts=Parts(
                    reclaimer=partial(NaiveReclaimer, redis=context.redis) if naive else Reclaimer
                ),
            )
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.run(), name="worker")


ROLES: dict[str, Callable[[], None]] = {
    "plain": lambda: uvloop.run(main()),
    "deadly": lambda: uvloop.run(consume(naive=False)),
    "naive": lambda: uvloop.run(consume(naive=True)),
}


def keep_running(number: int, run: Callable[[], None]) -> None:
    """Fork again and again, until SIGTERM ends this process and with it all others."""
    for _ in range(number):
        fork(run)
    while True:
        os.wait()
        fork(run)


if __name__ == "__main__":
    keep_running(int(sys.argv[1]), ROLES[sys.argv[2]])
