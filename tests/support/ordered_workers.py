"""Workers of partitions whose handlers a test passes in, with real servers; letters in memory."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from datetime import timedelta
from uuid import UUID

from redis.asyncio import Redis

from shared.background import end
from shared.events.catalog import FLOWS, LEADS, SYNCER
from shared.settings import StreamsSettings
from shared.storage.partitions import PartitionRepository
from shared.storage.pool import Database
from shared.streams.codec import entry_id
from shared.streams.consuming.group import last_entry
from shared.streams.consuming.subscription import Handler, Subscription
from shared.streams.ordering.layout import Divisions
from shared.streams.ordering.partition import MOST_ENTRIES
from shared.streams.ordering.worker import Ordering
from shared.streams.workers import AnyWorker, open_workers
from tests.support.workers import BLOCK, KeepsLetters, hasty_settings


class Running:
    """A worker that runs; `name` is its process's."""

    def __init__(self, worker: AnyWorker, name: str, store: PartitionRepository) -> None:
        self.worker = worker
        self._name = name
        self._store = store
        self._is_dead = False
        self._task = asyncio.create_task(worker.run(), name=name)

    async def kill(self) -> None:
        """End it at once and without a word, wherever it is."""
        await end(self._task)
        await self._bury()

    async def death(self) -> None:
        """Wait until it dies of what a handler raises."""
        await asyncio.wait([self._task], timeout=10)
        assert self._task.done()
        assert self._task.exception() is not None
        await self._bury()

    async def finish(self) -> None:
        """Wait until it has left, unless the test has seen it die."""
        if not self._is_dead:
            await self._task

    async def _bury(self) -> None:
        """Have the others know at once, not after a lease."""
        self._is_dead = True
        for member in (await self._store.survey(LEADS)).members:
            if member.name == self._name:
                await self._store.bury(member)


class OrderedWorkers:
    """Runs workers of the `syncer` group on the partitions of `stream:leads`."""

    def __init__(self, redis: Redis, streams: StreamsSettings, database: Database) -> None:
        self.redis = redis
        self.letters = KeepsLetters()
        self.store = PartitionRepository(database)
        self._streams = streams

    @contextlib.asynccontextmanager
    async def running(
        self,
        handler: Handler | Mapping[str, Handler],
        *,
        name: str = "syncer:test:1",
        batch: int = 10,
        max_attempts: int = 3,
        most_held: int = MOST_ENTRIES,
        settled: bool = False,
        lease: timedelta = timedelta(seconds=2),
        block: timedelta = BLOCK,
    ) -> AsyncGenerator[Running]:
        """Run a worker for the length of the block, with a handler for each type, or one for all.

        Then it finishes what it has begun, unless it has died.
        """

        async def is_settled(_event_id: UUID) -> bool:
            return settled

        subscription = Subscription(
            stream=LEADS,
            group=SYNCER,
            handlers=_by_type(handler),
            is_settled=is_settled,
            batch=batch,
        )
        stop = asyncio.Event()
        opening = open_workers(
            self.redis,
            [subscription],
            streams=self._streams,
            dead_letters=self.letters,
            settings=hasty_settings(lease=lease, max_attempts=max_attempts, block=block),
            name=name,
            stop=stop,
            ordering=Ordering(
                store=self.store,
                divisions=Divisions(self.redis, self.store),
                name=name,
                most_held=most_held,
            ),
        )
        async with opening as [worker]:
            running = Running(worker, name, self.store)
            try:
                yield running
            finally:
                stop.set()
                await running.finish()

    async def all_done(self) -> bool:
        """Return whether everything in the partitions has come to its end, and nothing is held."""
        division = await self.store.division(LEADS)
        if division is None or await self.store.count_held(LEADS):
            return False
        survey = await self.store.survey(LEADS)
        done = {(row.layout, row.number): entry_id(row.position) for row in survey.partitions}
        newest = [
            (await last_entry(self.redis, name) or (0, 0)) <= done[layout.number, number]
            for layout in division.layouts
            for number, name in enumerate(layout.names)
        ]
        return all(newest)


def _by_type(handler: Handler | Mapping[str, Handler]) -> Mapping[str, Handler]:
    if isinstance(handler, Mapping):
        return handler  # pyright: ignore[reportUnknownVariableType]  # a handler is no mapping
    return {flow.event.type: handler for flow in FLOWS if flow.stream == LEADS}
