"""A syncer that dies at a point of one's choice: `python -m tests.faults.crashing_syncer`.

Its arguments are `POINT MARK PARTS`: it dies at that point of the batch that holds an event with
this correlation id.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import Any

import uvloop

from services.syncer.after_commit import AfterCommit
from services.syncer.bootstrap import SyncerContext, bootstrap
from services.syncer.handlers.lead_created import LeadCreatedHandler
from services.syncer.settings import SyncerSettings
from services.syncer.storage.creation import LeadCreationRepository
from services.syncer.storage.erasure import StreamErasure
from shared.cache.lead_cache import Document, LeadCache, open_cache
from shared.events import catalog
from shared.events.data import LeadCreated
from shared.events.envelope import Event
from shared.events.outcome import Outcome
from shared.events.partitions import Claim
from shared.lifecycle import instance_name
from shared.storage.partitions import PartitionRepository
from shared.storage.pool import Connection, Database
from shared.streams.codec import Change
from shared.streams.consuming.settlement import Delivery
from shared.streams.consuming.subscription import Handler, Subscription
from shared.streams.ordering.consumer import PartitionConsumer
from shared.streams.ordering.worker import Ordering, PartitionSettlement
from shared.streams.publisher import Publisher, open_publisher
from shared.streams.workers import open_workers
from tests.faults.defects import MovesOnReading
from tests.faults.system import say
from tests.support.forked_process import start_forked

BATCH = 50
GIVE_UP = timedelta(seconds=10)
LONGEST = timedelta(seconds=20)


class Point(StrEnum):
    """Where to die: what an event goes through, in this order."""

    AFTER_READ = "after-read"
    BEFORE_TRANSACTION = "before-transaction"
    BEFORE_COMMIT = "before-commit"
    AFTER_COMMIT = "after-commit"
    AFTER_CACHE = "after-cache"
    AFTER_NOTICE = "after-notice"
    AFTER_REPLY = "after-reply"
    AFTER_MOVE = "after-move"


class Crash:
    """Ends this process at one point, once it is armed."""

    def __init__(self, point: Point, mark: str) -> None:
        self._point = point
        self._mark = mark
        self._is_armed = False

    def arm(self, *correlation_ids: str) -> None:
        """Be armed if the marked event is among those that are worked on now."""
        self._is_armed = self._mark in correlation_ids

    def arming(self, handler: Handler) -> Handler:
        """Return the handler, after a look at whether the marked event has come."""

        async def handle(events: Sequence[Event]) -> Sequence[Outcome]:
            self.arm(*(event.correlation_id for event in events))
            self.at(Point.BEFORE_TRANSACTION)
            return await handler(events)

        return handle

    def at(self, point: Point) -> None:
        """Die, if this is the place."""
        if self._is_armed and self._point is point:
            os.kill(os.getpid(), signal.SIGKILL)


class CrashingConsumer(PartitionConsumer):
    """Dies with what it has just read."""

    def __init__(self, *arguments: Any, crash: Crash, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._crash = crash

    async def _read(self) -> None:
        await super()._read()
        read = [entry for one in self._partitions.values() for entry in one.waiting]
        self._crash.arm(*(entry.fields[b"correlationid"].decode() for entry in read))
        self._crash.at(Point.AFTER_READ)


class CrashingDatabase(Database):
    """Dies around the commit of a transaction."""

    def __init__(self, inner: Database, crash: Crash) -> None:
        self._inner = inner
        self._crash = crash

    @asynccontextmanager
    async def transaction(self, *, setting: str = "") -> AsyncGenerator[Connection]:
        async with self._inner.transaction(setting=setting) as connection:
            yield connection
            self._crash.at(Point.BEFORE_COMMIT)
        self._crash.at(Point.AFTER_COMMIT)


class CrashingCache(LeadCache):
    """Dies after a write to the cache."""

    def __init__(self, inner: LeadCache, crash: Crash) -> None:
        self._inner = inner
        self._crash = crash

    async def put(self, documents: Sequence[Document]) -> None:
        await self._inner.put(documents)
        if documents:
            self._crash.at(Point.AFTER_CACHE)


class CrashingPublisher(Publisher):
    """Dies after it has told others what has changed."""

    def __init__(self, inner: Publisher, crash: Crash) -> None:
        self._inner = inner
        self._crash = crash

    def publish_all(self, events: Sequence[Event]) -> "asyncio.Future[list[str]]":
        """Pass on what goes to its lead's partition: it is no notice."""
        return self._inner.publish_all(events)

    async def announce(self, changes: Sequence[Change], *, source: str) -> None:
        await self._inner.announce(changes, source=source)
        if changes:
            self._crash.at(Point.AFTER_NOTICE)


class CrashingSettlement(PartitionSettlement):
    """Dies after the reply."""

    def __init__(self, *arguments: Any, crash: Crash, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._crash = crash

    async def settle(self, run: Sequence[Delivery], outcomes: Sequence[Outcome]) -> None:
        await super().settle(run, outcomes)
        self._crash.at(Point.AFTER_REPLY)


class CrashingStore(PartitionRepository):
    """Dies after the position has moved over what is done."""

    def __init__(self, database: Database, crash: Crash) -> None:
        super().__init__(database)
        self._crash = crash

    async def move(self, positions: Sequence[tuple[Claim, str]]) -> None:
        await super().move(positions)
        self._crash.at(Point.AFTER_MOVE)


async def syncer(crash: Crash, consumer: type[CrashingConsumer]) -> None:
    """Consume until the crash comes, or has not come for too long."""
    settings = SyncerSettings.load()
    name, stop = instance_name(catalog.SYNCER), asyncio.Event()
    async with AsyncExitStack() as stack:
        context = await stack.enter_async_context(bootstrap(settings))
        [worker] = await stack.enter_async_context(
            open_workers(
                context.redis,
                [await stack.enter_async_context(_subscription(context, settings, crash))],
                streams=settings.streams,
                dead_letters=context.dead_letters,
                settings=settings.consumer,
                name=name,
                stop=stop,
                ordering=Ordering(
                    store=CrashingStore(context.database, crash),
                    divisions=context.divisions,
                    name=name,
                    consumer=partial(consumer, crash=crash),
                    settlement=partial(CrashingSettlement, crash=crash),
                ),
            )
        )
        asyncio.get_running_loop().call_later(GIVE_UP.total_seconds(), stop.set)
        await worker.run()


@asynccontextmanager
async def _subscription(
    context: SyncerContext, settings: SyncerSettings, crash: Crash
) -> AsyncGenerator[Subscription]:
    """Yield the product's subscription to leads, with a handler that dies on its way."""
    async with (
        open_cache(settings.cache, default_url=settings.streams.url) as cache,
        open_publisher(context.redis, context.divisions) as publisher,
    ):
        after_commit = AfterCommit(
            CrashingCache(cache, crash),
            CrashingPublisher(publisher, crash),
            StreamErasure(context.database, context.redis, context.divisions),
        )
        leads = LeadCreationRepository(CrashingDatabase(context.database, crash))
        handler = crash.arming(LeadCreatedHandler(leads, after_commit))
        yield replace(context.subscriptions[0], handlers={LeadCreated.type: handler}, batch=BATCH)


class MovingConsumer(MovesOnReading, CrashingConsumer):
    """Dies as the good one does, with a position that says that it is done."""


CONSUMERS: dict[str, type[CrashingConsumer]] = {
    "good": CrashingConsumer,
    "moves-on-reading": MovingConsumer,
}


async def dies(
    point: Point, mark: str, parts: str = "good", *, environment: Mapping[str, str]
) -> bool:
    """Let one run with a syncer's settings; tells whether it died where it should."""
    process = await start_forked(
        "crashing syncer",
        *("tests.faults.crashing_syncer", point, mark, parts),
        environment=environment,
        on_line=lambda line: say("crashing syncer", line),
    )
    try:
        async with asyncio.timeout(LONGEST.total_seconds()):
            return await process.wait() == -signal.SIGKILL
    finally:
        process.kill()


def main(point: str, mark: str, parts: str) -> None:
    """Be that syncer."""
    uvloop.run(syncer(Crash(Point(point), mark), CONSUMERS[parts]))


if __name__ == "__main__":
    main(*sys.argv[1:])
