"""The real syncer, in this process."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

from pydantic import HttpUrl

from services.syncer.app import run
from services.syncer.bootstrap import bootstrap
from services.syncer.settings import SyncerSettings, SyncSettings
from services.syncer.sources import ExternalSource
from shared.settings import (
    CacheSettings,
    ConsumerSettings,
    ObservabilitySettings,
    PostgresSettings,
    StreamsSettings,
)
from tests.support.stopping import until_stopped

_OBSERVABILITY = ObservabilitySettings()  # frozen, and so made once


@asynccontextmanager
async def running_syncer(
    postgres: PostgresSettings,
    streams: StreamsSettings,
    cache: CacheSettings,
    *,
    lease: timedelta = timedelta(seconds=15),
    source: ExternalSource | None = None,
    url: str = "http://127.0.0.1:9/",
) -> AsyncGenerator[None]:
    """Carry out creates for the length of the block; the schedule stands still."""
    settings = SyncerSettings(
        postgres=postgres,
        streams=streams,
        consumer=ConsumerSettings(stream_block=timedelta(milliseconds=50), stream_lease=lease),
        cache=cache,
        sync=SyncSettings(sync_enabled=False, randomuser_url=HttpUrl(url)),
        observability=_OBSERVABILITY,
    )
    async with (
        bootstrap(settings, source=source) as context,
        until_stopped(lambda stop: run(context, settings, stop), name="syncer"),
    ):
        yield
