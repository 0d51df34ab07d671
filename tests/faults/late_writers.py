"""Writers whose transactions stay open for a while between a change and its commit."""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from uuid import UUID

from services.syncer.after_commit import AfterCommit
from services.syncer.handlers.lead_created import LeadCreatedHandler
from services.syncer.handlers.lead_updated import LeadUpdatedHandler
from services.syncer.storage.creation import LeadCreationRepository
from services.syncer.storage.erasure import StreamErasure
from services.syncer.storage.update import LeadUpdateRepository
from shared.cache.lead_cache import open_cache
from shared.events.data import LeadCreated
from shared.events.envelope import Event
from shared.events.outcome import OutcomeStatus
from shared.redis_connections import open_redis
from shared.settings import CacheSettings, PostgresSettings, StreamsSettings
from shared.storage.partitions import PartitionRepository
from shared.storage.pool import Connection, Database, open_database
from shared.streams.consuming.subscription import Handler
from shared.streams.ordering.layout import Divisions
from shared.streams.publisher import open_publisher
from tests.support.builders import lead_created, lead_updated

DONE = {OutcomeStatus.CREATED, OutcomeStatus.UPDATED}
LATEST = 0.05
LARGEST_BATCH = 20


class CommitsLate(Database):
    """Holds half of its transactions open before they are committed."""

    def __init__(self, inner: Database, settings: PostgresSettings, chance: random.Random) -> None:
        super().__init__(inner._pool, inner._statements, settings)
        self._chance = chance

    @contextlib.asynccontextmanager
    async def transaction(self, *, setting: str = "") -> AsyncGenerator[Connection]:
        async with super().transaction(setting=setting) as connection:
            yield connection
            if self._chance.random() < 0.5:
                await asyncio.sleep(self._chance.uniform(0, LATEST))


@dataclass(frozen=True, slots=True)
class Writer:
    """A syncer's handlers on such a database. Each change that it makes is its lead's last one."""

    create: Handler
    update: Handler
    chance: random.Random

    async def write(self, *, new: int, old: Sequence[UUID]) -> None:
        """Make new leads, and change old ones."""
        creations = [lead_created() for _ in range(new)]
        updates = [lead_updated(lead_id, city="Rome") for lead_id in old]
        while creations or updates:
            await self.write_some(creations)
            await self.write_some(updates)

    async def write_some(self, events: list[Event]) -> None:
        """Apply some of the events, in one batch, and take them off the list."""
        size = self.chance.randint(1, LARGEST_BATCH)
        batch, events[:] = events[:size], events[size:]
        if batch:
            handler = self.create if batch[0].type == LeadCreated.type else self.update
            outcomes = await handler(batch)
            assert {outcome.status for outcome in outcomes} <= DONE


@contextlib.asynccontextmanager
async def open_writers(
    number: int,
    postgres: PostgresSettings,
    streams: StreamsSettings,
    chance: random.Random,
) -> AsyncGenerator[list[Writer]]:
    """Open writers for the length of the block."""
    async with (
        open_database(postgres) as database,
        open_redis(streams) as redis,
        open_cache(CacheSettings(), default_url=streams.url) as cache,
        open_publisher(redis, Divisions(redis, PartitionRepository(database))) as publisher,
    ):
        after_commit = AfterCommit(
            cache, publisher, StreamErasure(database, redis, Divisions(redis))
        )
        late = CommitsLate(database, postgres, chance)
        yield [
            Writer(
                LeadCreatedHandler(LeadCreationRepository(late), after_commit),
                LeadUpdatedHandler(LeadUpdateRepository(late), after_commit),
                chance,
            )
            for _ in range(number)
        ]
