"""I19: who polls by `updatedAfter`, or follows `/changes`, misses no change."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from redis.asyncio import Redis

from services.api.bootstrap import Api
from services.api.handlers.lead_list import LeadListHandlers
from services.api.settings import LimitSettings
from services.api.storage.lead_search import LeadSearch
from services.api.storage.replica import Reads, Replica, Settled
from shared.observability.outages import Outages
from shared.settings import CacheSettings, PostgresSettings, StreamsSettings
from shared.storage.pool import Database
from tests.faults.conftest import Figure
from tests.faults.database import Tables
from tests.faults.late_writers import Writer, open_writers
from tests.faults.readers import Change, ChangesReader, ForgetsQuietIds, Poller
from tests.faults.scale import scaled
from tests.support.api import Alter, api_settings_of, running_api, unaltered
from tests.support.auth_server import AuthServer
from tests.support.event_streams import EventSource
from tests.support.lead_table import insert_lead

CHANGES = scaled(300, 20_000)
FEW = 150
WRITERS = 3
# Each writer has so many transactions open at once.
AT_ONCE = 2
NEVER = datetime(2999, 1, 1, tzinfo=UTC)

_CHANGED = "SELECT id::text, version FROM leads.lead WHERE updated_at > %s"
_CREATED = "SELECT id::text, version FROM leads.lead WHERE created_at > %s"


@dataclass(frozen=True, slots=True)
class Readers:
    """Readers of a system in which something happens."""

    updated: tuple[Poller, ...]
    created: Poller
    changes: ChangesReader

    def run(self, chance: random.Random, end: asyncio.Event) -> list[Coroutine[Any, Any, None]]:
        """Return what has each of them read until the end."""
        pollers = [one.run(chance, end) for one in (*self.updated, self.created)]
        return [*pollers, self.changes.run(chance, end)]

    def check(self, *, changed: set[Change], created: set[Change]) -> None:
        """Fail if one of them has missed something."""
        missed = {
            "polls by updatedAfter": [len(changed - one.seen) for one in self.updated],
            "polls by createdAfter": [len(created - self.created.seen)],
            "/changes": [len(changed - self.changes.seen)],
        }
        assert not any(map(any, missed.values())), f"missed {missed}"
        twice = [len(one.twice) for one in (*self.updated, self.created)]
        assert not any(twice), f"seen twice: {twice}"


@dataclass(frozen=True, slots=True)
class Setting:
    """Servers, and an API with handlers of one's own."""

    auth: AuthServer
    postgres: PostgresSettings
    streams: StreamsSettings
    database: Database
    redis: Redis
    chance: random.Random

    @asynccontextmanager
    async def api(self, alter: Alter = unaltered) -> AsyncGenerator[httpx.AsyncClient]:
        """Serve, and yield a client that does not look at answers twice."""
        limits = LimitSettings(rate_limit=None)
        settings = api_settings_of(
            self.auth, self.postgres, self.streams, CacheSettings(), limits=limits
        )
        async with (
            running_api(settings, token=self.auth.token(), alter=alter) as api,
            httpx.AsyncClient(base_url=api.base_url, headers=api.headers, timeout=30) as client,
        ):
            yield client

    async def happens(
        self, api: httpx.AsyncClient, number: int, source: EventSource
    ) -> tuple[Readers, int]:
        """Have leads created and changed while somebody looks, and check that all of it is seen.

        Returns the readers and how many changes there were.
        """
        # Their own ids are the keys by which events about them are addressed.
        old = [await insert_lead(self.database, external_id=None) for _ in range(number // 2)]
        since = await self._now()
        readers = self._readers(api, source, since=since)
        await readers.changes.look_in()
        end = asyncio.Event()
        async with open_writers(WRITERS, self.postgres, self.streams, self.chance) as writers:
            await writers[0].write(new=1, old=())
            async with asyncio.TaskGroup() as tasks:
                for reading in readers.run(self.chance, end):
                    tasks.create_task(reading, name="reader")
                await self._write(writers, new=number - len(old) - 1, old=old)
                end.set()
        tables = Tables(self.postgres.dsn)
        changed = {(row[0], row[1]) for row in await tables.rows(_CHANGED, since)}
        created = {(row[0], row[1]) for row in await tables.rows(_CREATED, since)}
        assert len(changed) == number
        readers.check(changed=changed, created=created)
        return readers, number

    def _readers(self, api: httpx.AsyncClient, source: EventSource, *, since: datetime) -> Readers:
        def poller(time: str, query: str) -> Poller:
            return Poller(api, since=since, time=time, query=query)

        return Readers(
            updated=(poller("updated", "sort=updatedAt&limit=500"), poller("updated", "limit=20")),
            created=poller("created", "sort=createdAt&limit=500"),
            changes=ChangesReader(api, source, self.redis),
        )

    async def _write(self, writers: list[Writer], *, new: int, old: list[UUID]) -> None:
        share = len(writers) * AT_ONCE
        async with asyncio.TaskGroup() as tasks:
            for number in range(share):
                mine = len(range(number, new, share))
                writer = writers[number % len(writers)]
                tasks.create_task(writer.write(new=mine, old=old[number::share]), name="writer")

    async def _now(self) -> datetime:
        """Return a time that everything until now is before or at, and all else after."""
        async with self.database.connection() as connection:
            now: datetime = await connection.fetchval("SELECT leads.stamp()")
        await asyncio.sleep(timedelta(milliseconds=2).total_seconds())
        return now


@pytest.fixture
async def setting(
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
    database: Database,
    redis: Redis,
    chance: random.Random,
) -> AsyncGenerator[Setting]:
    async with AuthServer() as auth:
        yield Setting(auth, postgres_settings, streams_settings, database, redis, chance)


async def test_readers_miss_nothing(setting: Setting, figure: Figure) -> None:
    async with setting.api() as api:
        readers, number = await setting.happens(api, CHANGES, EventSource())
    figure(
        f"{number:,} changes, {WRITERS} writers that commit late: 0 missed and 0 seen twice by "
        f"pollers; 0 missed by who follows, cut off {readers.changes.visits} times"
    )


@pytest.mark.long
async def test_control_lists_without_an_end_miss_what_commits_late(
    setting: Setting, figure: Figure
) -> None:
    with pytest.raises(AssertionError, match="missed") as failed:
        async with setting.api(_endless(setting.database)) as api:
            await setting.happens(api, FEW, EventSource())
    figure(str(failed.value).splitlines()[0])


async def test_control_a_stream_that_begins_without_an_id_loses_changes(
    setting: Setting, figure: Figure
) -> None:
    with pytest.raises(AssertionError, match="missed") as failed:
        async with setting.api() as api:
            await setting.happens(api, FEW, ForgetsQuietIds())
    figure(str(failed.value).splitlines()[0])


def _endless(database: Database) -> Callable[[Api], Api]:
    """Return what lets lists show whatever is there."""

    async def settled_before() -> Settled:
        return Settled(NEVER, None)

    def alter(api: Api) -> Api:
        reads = Reads(Replica(database, None, Outages()), LeadSearch)
        leads = LeadListHandlers(
            reads, settled_before=settled_before, timeout=timedelta(seconds=10)
        )
        others = (one for one in api.handlers if not isinstance(one, LeadListHandlers))
        return replace(api, handlers=(leads, *others))

    return alter
