"""The product's services in this process, with other handlers in the place of theirs."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

from services.summarizer import app as summarizer
from services.summarizer.bootstrap import bootstrap as open_summarizer
from services.summarizer.providers import Provider
from services.summarizer.settings import SummarizerSettings
from services.syncer import app as syncer
from services.syncer.bootstrap import bootstrap as open_syncer
from services.syncer.settings import SyncerSettings, SyncSettings
from shared.settings import (
    CacheSettings,
    ConsumerSettings,
    ObservabilitySettings,
    PostgresSettings,
    StreamsSettings,
)
from shared.streams.consuming.subscription import Handler, Subscription
from tests.support.stopping import until_stopped

Wrap = Callable[[Handler], Handler]


def syncer_settings(
    postgres: PostgresSettings,
    streams: StreamsSettings,
    *,
    lease: timedelta = timedelta(seconds=15),
) -> SyncerSettings:
    """Return settings of a syncer that does not look for work of its own."""
    return SyncerSettings(
        postgres=postgres,
        streams=streams,
        consumer=ConsumerSettings(stream_block=timedelta(milliseconds=100), stream_lease=lease),
        cache=CacheSettings(),
        sync=SyncSettings(sync_enabled=False),
        observability=ObservabilitySettings(),
    )


@asynccontextmanager
async def altered_syncer(settings: SyncerSettings, wrap: Wrap) -> AsyncGenerator[None]:
    """Run a syncer with wrapped handlers for the length of the block."""
    async with open_syncer(settings) as context:
        altered = replace(context, subscriptions=tuple(_wrapped(context.subscriptions, wrap)))
        async with until_stopped(lambda stop: syncer.run(altered, settings, stop), name="syncer"):
            yield


@asynccontextmanager
async def altered_summarizer(
    settings: SummarizerSettings, wrap: Wrap, *, provider: Provider | None = None
) -> AsyncGenerator[None]:
    """Run a summarizer with wrapped handlers for the length of the block.

    `provider` replaces the one that the settings name.
    """
    async with open_summarizer(settings, provider=provider) as context:
        altered = replace(context, subscriptions=tuple(_wrapped(context.subscriptions, wrap)))
        async with until_stopped(
            lambda stop: summarizer.run(altered, settings, stop), name="summarizer"
        ):
            yield


def unaltered(handler: Handler) -> Handler:
    """Return the handler as it is."""
    return handler


def _wrapped(subscriptions: Sequence[Subscription], wrap: Wrap) -> list[Subscription]:
    return [
        replace(one, handlers={name: wrap(handler) for name, handler in one.handlers.items()})
        for one in subscriptions
    ]
