"""A syncer that dies at a point of one's choice, forked anew for every line on stdin.

A line is `POINT MARK PARTS`: the child dies at that point of the batch that holds an event
with this correlation id. Answers `died` or `lived` for each.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum
from functools import partial

import uvloop
from redis.asyncio import Redis

from services.syncer.after_commit import AfterCommit
from services.syncer.bootstrap import bootstrap
from services.syncer.handlers.lead_created import LeadCreatedHandler
from services.syncer.settings import SyncerSettings
from services.syncer.storage.creation import LeadCreationRepository
from services.syncer.storage.erasure import StreamErasure
from shared.cache.lead_cache import Document, LeadCache, open_cache
from shared.events import catalog
from shared.events.data import LeadCreated
from shared.events.envelope import Event
from shared.events.outcome import Outcome
from shared.lifecycle import instance_name
from shared.storage.pool import Connection, Database
from shared.streams.consuming.group import Group
from shared.streams.consuming.health import OutageWait
from shared.streams.consuming.settlement import DeadLetterStore, Delivery, Settlement
from shared.streams.consuming.subscription import Handler
from shared.streams.consuming.worker import Parts, open_workers
from shared.streams.ordering.layout import Divisions
from shared.streams.publisher import open_publisher
from tests.faults.defects import AcknowledgesOnReading
from tests.faults.forking import fork, killed

BATCH = 50
GIVE_UP = timedelta(seconds=10)


class Point(StrEnum):
    """Where to die: what an event goes through, in this order."""

    BEFORE_COMMIT = "before-commit"
    AFTER_COMMIT = "after-commit"
    BEFORE_CACHE = "before-cache"
    AFTER_CACHE = "after-cache"
    BEFORE_REPLY = "before-reply"
    AFTER_REPLY = "after-reply"
    BEFORE_ACK = "before-ack"
    AFTER_ACK = "after-ack"


class Crash:
    """Ends this process at one point, once it is armed."""

    def __init__(self, point: Point, mark: str) -> None:
        self._point = point
        self._mark = mark
        self._is_armed = False

    def arming(self, handler: Handler) -> Handler:
        """Return the handler, after a look at whether the marked event has come."""

        async def handle(events: Sequence[Event]) -> Sequence[Outcome]:
            self._is_armed = any(event.correlation_id == self._mark for event in events)
            return await handler(events)

        return handle

    def at(self, *points: Point) -> None:
        """Die, if this is the place."""
        if self._is_armed and self._point in points:
            os.kill(os.getpid(), signal.SIGKILL)


class CrashingDatabase(Database):
    """Dies around the commit of a transaction."""

    def __init__(self, inner: Database, crash: Crash) -> None:
        self._inner = inner
        self._crash = crash

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Connection]:
        async with self._inner.transaction() as connection:
            yield connection
            self._crash.at(Point.BEFORE_COMMIT)
        self._crash.at(Point.AFTER_COMMIT)


class CrashingCache(LeadCache):
    """Dies around the write to the cache."""

    def __init__(self, inner: LeadCache, crash: Crash) -> None:
        self._inner = inner
        self._crash = crash

    async def put(self, documents: Sequence[Document]) -> None:
        self._crash.at(Point.BEFORE_CACHE)
        await self._inner.put(documents)
        self._crash.at(Point.AFTER_CACHE)


class CrashingSettlement(Settlement):
    """Dies around the reply and around the acknowledgement."""

    def __init__(
        self,
        redis: Redis,
        group: Group,
        *,
        dead_letters: DeadLetterStore,
        outages: OutageWait,
        crash: Crash,
    ) -> None:
        super().__init__(redis, group, dead_letters=dead_letters, outages=outages)
        self._crash = crash
        # It acknowledges for a group that does not exist: replies go out, entries stay pending.
        no_group = Group(redis, redis, stream=group.stream, group="none", consumer="none")
        self._replies = Settlement(redis, no_group, dead_letters=dead_letters, outages=outages)

    async def settle(self, run: Sequence[Delivery], outcomes: Sequence[Outcome]) -> None:
        self._crash.at(Point.BEFORE_REPLY)
        await self._replies.settle(run, outcomes)
        self._crash.at(Point.AFTER_REPLY, Point.BEFORE_ACK)
        await super().settle(run, outcomes)
        self._crash.at(Point.AFTER_ACK)


async def syncer(crash: Crash, parts: Parts) -> None:
    """Consume until the crash comes, or has not come for too long."""
    settings = SyncerSettings.load()
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        context = await stack.enter_async_context(bootstrap(settings))
        cache = await stack.enter_async_context(
            open_cache(settings.cache, default_url=settings.streams.url)
        )
        publisher = await stack.enter_async_context(
            open_publisher(context.redis, Divisions(context.redis))
        )
        leads = LeadCreationRepository(CrashingDatabase(context.database, crash))
        after_commit = AfterCommit(
            CrashingCache(cache, crash),
            publisher,
            StreamErasure(context.database, context.redis),
        )
        handler = LeadCreatedHandler(leads, after_commit)
        handlers = {LeadCreated.type: crash.arming(handler)}
        [worker] = await stack.enter_async_context(
            open_workers(
                context.redis,
                [replace(context.subscriptions[0], handlers=handlers, batch=BATCH)],
                streams=settings.streams,
                dead_letters=context.dead_letters,
                settings=settings.consumer,
                name=instance_name(catalog.SYNCER),
                stop=stop,
                parts=parts,
            )
        )
        asyncio.get_running_loop().call_later(GIVE_UP.total_seconds(), stop.set)
        await worker.run()


def run_once(line: str) -> None:
    """Be the syncer that a line asks for."""
    point, mark, parts = line.split()
    crash = Crash(Point(point), mark)
    settlement = partial(CrashingSettlement, crash=crash)
    group = AcknowledgesOnReading if parts == "acknowledges-on-reading" else Group
    uvloop.run(syncer(crash, Parts(group=group, settlement=settlement)))


if __name__ == "__main__":
    for order in sys.stdin:
        answer = "died" if killed(fork(partial(run_once, order))) else "lived"
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()
