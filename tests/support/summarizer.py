"""The real summarizer, in this process."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

from services.summarizer.app import run
from services.summarizer.bootstrap import bootstrap
from services.summarizer.providers import Provider
from services.summarizer.settings import GroqSettings, SummarizerSettings, SummarySettings
from shared.settings import (
    CacheSettings,
    ConsumerSettings,
    ObservabilitySettings,
    PostgresSettings,
    StreamsSettings,
)
from tests.support.stopping import until_stopped


def summarizer_settings(
    postgres: PostgresSettings,
    streams: StreamsSettings,
    *,
    summary: SummarySettings | None = None,
    groq: GroqSettings | None = None,
    observability: ObservabilitySettings | None = None,
) -> SummarizerSettings:
    """Return settings for tests: short waits, and the offline provider by default."""
    return SummarizerSettings(
        postgres=postgres,
        streams=streams,
        consumer=ConsumerSettings(stream_block=timedelta(milliseconds=100)),
        cache=CacheSettings(),
        summary=summary or SummarySettings(),
        groq=groq or GroqSettings(),
        observability=observability or ObservabilitySettings(),
    )


@asynccontextmanager
async def running_summarizer(
    settings: SummarizerSettings, *, provider: Provider | None = None
) -> AsyncGenerator[None]:
    """Answer requests for the length of the block."""
    async with (
        bootstrap(settings, provider=provider) as context,
        until_stopped(lambda stop: run(context, settings, stop), name="summarizer"),
    ):
        yield
