"""A syncer in this process, on real servers, with the source passed in."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from pydantic import HttpUrl
from redis.asyncio import Redis

from services.syncer.app import run
from services.syncer.bootstrap import SyncerContext, bootstrap
from services.syncer.settings import SyncerSettings, SyncSettings
from services.syncer.sources import ExternalSource, Fetched
from shared.background import background
from shared.cache.lead_cache import LeadCache, open_cache
from shared.events import catalog
from shared.events.data import LeadUpserted
from shared.events.envelope import Event
from shared.events.outcome import Outcome
from shared.redis_connections import open_redis
from shared.settings import (
    CacheSettings,
    ConsumerSettings,
    ObservabilitySettings,
    PostgresSettings,
    StreamsSettings,
)
from shared.storage.pool import Database
from shared.streams.consuming.subscription import Handler
from shared.streams.publisher import add_events
from shared.streams.replies import Replies
from tests.support.builders import lead_created, lead_fields

StartSyncer = Callable[..., contextlib.AbstractAsyncContextManager[SyncerContext]]


class Offers:
    """A source that always offers the same."""

    name = "randomuser"

    def __init__(self, fetched: Fetched) -> None:
        self.fetched = fetched
        self.fetches = 0

    async def fetch(self, count: int) -> Fetched:
        self.fetches += 1
        return Fetched(self.fetched.leads[:count], self.fetched.problems)


class Asker:
    """Publishes events and waits for their outcomes."""

    def __init__(self, redis: Redis, replies: Replies) -> None:
        self._redis = redis
        self._replies = replies

    @property
    def address(self) -> str:
        return self._replies.address

    async def ask(self, events: Sequence[Event]) -> list[Outcome]:
        """Publish the events one by one, addressed or not, and return their outcomes."""
        return await asyncio.gather(*(self._ask(event) for event in events))

    async def _ask(self, event: Event) -> Outcome:
        with self._replies.expect(event.id) as reply:
            await add_events(self._redis, [replace(event, reply_to=self.address)])
            return await asyncio.wait_for(reply, 10)


@pytest.fixture
async def asker(redis: Redis, streams_settings: StreamsSettings) -> AsyncGenerator[Asker]:
    block = timedelta(milliseconds=100)
    async with open_redis(streams_settings, block=block) as reader:
        replies = Replies(reader, instance="tests", block=block)
        async with background(replies.run(), name="replies"):
            yield Asker(redis, replies)


_KEY = """
    SELECT leads.partition_key(lead)::text AS key FROM leads.lead
    WHERE CASE WHEN $2 THEN external_id ELSE id END = $1
"""


class Handlers:
    """A syncer's handlers, called by hand."""

    def __init__(self, by_type: Mapping[str, Handler], database: Database) -> None:
        self.by_type = by_type
        self._database = database

    async def handle(self, *events: Event) -> list[Outcome]:
        """Handle events of one type as one batch, about leads that are there under their keys."""
        addressed = [await self._addressed(event) for event in events]
        return list(await self.by_type[events[0].type](addressed))

    async def _addressed(self, event: Event) -> Event:
        if event.partition_key is not None:
            return event
        is_upsert = event.type == LeadUpserted.type
        found = await rows(self._database, _KEY, UUID(event.default_key), is_upsert)
        return replace(event, partition_key=found[0]["key"]) if found else event

    async def one(self, event: Event) -> Outcome:
        """Handle one event."""
        [outcome] = await self.handle(event)
        return outcome


OpenHandlers = Callable[..., contextlib.AbstractAsyncContextManager[Handlers]]


@pytest.fixture
def open_handlers(
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
    cache_settings: CacheSettings,
) -> OpenHandlers:
    @contextlib.asynccontextmanager
    async def open_(*, cache: CacheSettings = cache_settings) -> AsyncGenerator[Handlers]:
        settings = SyncerSettings(
            postgres=postgres_settings,
            streams=streams_settings,
            consumer=ConsumerSettings(),
            cache=cache,
            sync=SyncSettings(),
            observability=ObservabilitySettings(),
        )
        async with bootstrap(settings) as context:
            [leads] = [one for one in context.subscriptions if one.stream == catalog.LEADS]
            yield Handlers(leads.handlers, context.database)

    return open_


@pytest.fixture
async def handlers(open_handlers: OpenHandlers) -> AsyncGenerator[Handlers]:
    async with open_handlers() as opened:
        yield opened


@pytest.fixture
async def cache(cache_settings: CacheSettings, redis_url: str) -> AsyncGenerator[LeadCache]:
    async with open_cache(cache_settings, default_url=redis_url) as opened:
        yield opened


async def rows(database: Database, query: str, *args: object) -> list[dict[str, Any]]:
    async with database.connection() as connection:
        return [dict(row) for row in await connection.fetch(query, *args)]


async def leads_table(database: Database) -> list[dict[str, Any]]:
    return await rows(database, "SELECT * FROM leads.lead ORDER BY id")


async def lose_leads(database: Database) -> None:
    """Delete the leads as no event does."""
    async with database.connection() as connection:
        await connection.execute("DELETE FROM leads.lead")


@pytest.fixture
def start_syncer(
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
    cache_settings: CacheSettings,
) -> StartSyncer:
    @contextlib.asynccontextmanager
    async def start(
        *,
        source: ExternalSource | None = None,
        url: str = "http://127.0.0.1:9/",
        cron: str = "0 0 1 1 *",
        results: int = 10,
        max_attempts: int = 5,
        cache: CacheSettings = cache_settings,
    ) -> AsyncGenerator[SyncerContext]:
        settings = SyncerSettings(
            postgres=postgres_settings,
            streams=streams_settings,
            consumer=ConsumerSettings(
                stream_block=timedelta(milliseconds=100), stream_max_attempts=max_attempts
            ),
            cache=cache,
            sync=SyncSettings(
                sync_cron=cron,
                sync_results=results,
                sync_timeout=timedelta(seconds=5),
                randomuser_url=HttpUrl(url),
            ),
            observability=ObservabilitySettings(),
        )
        stop = asyncio.Event()
        async with bootstrap(settings, source=source) as context, asyncio.TaskGroup() as tasks:
            tasks.create_task(run(context, settings, stop), name="syncer")
            try:
                yield context
            finally:
                stop.set()

    return start


def body(outcome: Outcome) -> dict[str, Any]:
    decoded: dict[str, Any] = orjson.loads(outcome.body)
    return decoded


async def created(handlers: Handlers, **fields: Any) -> UUID:
    """Create a lead and return its id."""
    outcome = await handlers.one(lead_created(lead_fields(**fields)))
    return UUID(body(outcome)["id"])
