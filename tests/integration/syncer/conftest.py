"""A syncer in this process, on real servers, with the source passed in."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta

import pytest
from pydantic import HttpUrl

from services.syncer.app import run
from services.syncer.bootstrap import SyncerContext, bootstrap
from services.syncer.settings import SyncerSettings, SyncSettings
from services.syncer.sources import Fetched, LeadSource
from shared.settings import (
    CacheSettings,
    ConsumerSettings,
    ObservabilitySettings,
    PostgresSettings,
    StreamsSettings,
)

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


@pytest.fixture
def start_syncer(
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
    cache_settings: CacheSettings,
) -> StartSyncer:
    @contextlib.asynccontextmanager
    async def start(
        *,
        source: LeadSource | None = None,
        url: str = "http://127.0.0.1:9/",
        cron: str = "0 0 1 1 *",
        results: int = 10,
        cache: CacheSettings = cache_settings,
    ) -> AsyncGenerator[SyncerContext]:
        settings = SyncerSettings(
            postgres=postgres_settings,
            streams=streams_settings,
            consumer=ConsumerSettings(stream_block=timedelta(milliseconds=100)),
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
