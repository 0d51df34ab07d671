"""The real syncer, in this process."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

from services.syncer.app import run
from services.syncer.bootstrap import bootstrap
from services.syncer.settings import SyncerSettings, SyncSettings
from shared.background import background
from shared.settings import (
    CacheSettings,
    ConsumerSettings,
    ObservabilitySettings,
    PostgresSettings,
    StreamsSettings,
)


@asynccontextmanager
async def running_syncer(
    postgres: PostgresSettings, streams: StreamsSettings, cache: CacheSettings
) -> AsyncGenerator[None]:
    """Carry out creates for the length of the block; the schedule stands still."""
    settings = SyncerSettings(
        postgres=postgres,
        streams=streams,
        consumer=ConsumerSettings(stream_block=timedelta(milliseconds=100)),
        cache=cache,
        sync=SyncSettings(sync_enabled=False),
        observability=ObservabilitySettings(),
    )
    async with (
        bootstrap(settings) as context,
        background(run(context, settings, asyncio.Event()), name="syncer"),
    ):
        yield
