"""Opens what the summarizer needs and joins it: the only place that knows every part."""

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from services.summarizer.breaker import Breaker
from services.summarizer.cache_writes import CacheLead, open_cache_writes
from services.summarizer.handlers.lead_changed import LeadChangedHandler
from services.summarizer.handlers.summary_requested import SummaryRequestedHandler
from services.summarizer.metrics import SummaryMetrics
from services.summarizer.prompts import PROMPT_VERSION
from services.summarizer.providers import Provider
from services.summarizer.providers.groq import open_groq
from services.summarizer.providers.offline import OfflineProvider
from services.summarizer.settings import SummarizerSettings
from services.summarizer.storage.budget import DailyQuota, MinuteBudget
from services.summarizer.storage.records import SummarySource
from services.summarizer.storage.repository import SummaryRepository, open_summaries
from services.summarizer.sweeper import Sweeper
from services.summarizer.upstream import Upstream
from services.summarizer.writer import SummaryWriter
from shared.cache.lead_cache import open_cache
from shared.events import catalog
from shared.events.lead_events import LeadChanged
from shared.events.summary_events import SummaryRequested
from shared.storage.dead_letters import DeadLetterRepository
from shared.storage.pool import Database, open_database
from shared.streams.connection import open_redis
from shared.streams.consuming.subscription import Subscription
from shared.streams.publisher import Publisher, open_publisher
from shared.streams.replies import LateReplies

# The group that summarises new leads has a place of its own in their stream, and few at a time:
# what it does not take is there for requests that somebody waits for.
AUTO_SUMMARY = "auto-summary"
AUTO_SUMMARY_CONCURRENCY = 4

BREAKER_FAILURES = 10
BREAKER_PAUSE = timedelta(seconds=15)

# What storing and telling a summary may take on top of writing it.
AFTERWORK = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class SummarizerContext:
    """What runs in a summarizer and what it runs on."""

    database: Database
    redis: Redis
    provider: Provider
    subscriptions: tuple[Subscription, ...]
    dead_letters: DeadLetterRepository
    sweeper: Sweeper
    registry: CollectorRegistry


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    settings: SummarizerSettings
    summaries: SummaryRepository
    writer: SummaryWriter
    cache_lead: CacheLead
    publisher: Publisher
    replies: LateReplies
    quota: DailyQuota
    metrics: SummaryMetrics


@contextlib.asynccontextmanager
async def bootstrap(
    settings: SummarizerSettings, *, provider: Provider | None = None
) -> AsyncGenerator[SummarizerContext]:
    """Open everything, yield it joined, and close it again. `provider` replaces the real one."""
    async with (
        open_database(settings.postgres) as database,
        open_redis(settings.streams) as redis,
        open_cache(settings.cache, default_url=settings.streams.url) as cache,
        open_publisher(redis) as publisher,
        _provider(settings, provider) as chosen,
        open_summaries(database, _source(settings, chosen)) as summaries,
        open_cache_writes(cache) as cache_lead,
    ):
        registry = CollectorRegistry()
        metrics = SummaryMetrics(registry)
        breaker = Breaker(failures=BREAKER_FAILURES, pause=BREAKER_PAUSE)
        metrics.watch(breaker)
        parts = _Parts(
            settings=settings,
            summaries=summaries,
            writer=SummaryWriter(_upstream(settings, chosen, redis, breaker)),
            cache_lead=cache_lead,
            publisher=publisher,
            replies=LateReplies(redis),
            quota=DailyQuota(redis, name="summaries", most=settings.daily_quota),
            metrics=metrics,
        )
        yield SummarizerContext(
            database=database,
            redis=redis,
            provider=chosen,
            subscriptions=tuple(_subscriptions(parts)),
            dead_letters=DeadLetterRepository(database),
            sweeper=Sweeper(summaries, parts.replies),
            registry=registry,
        )


@contextlib.asynccontextmanager
async def _provider(
    settings: SummarizerSettings, given: Provider | None
) -> AsyncGenerator[Provider]:
    """Yield the provider that the settings name: never another one because that one fails."""
    groq = settings.groq
    if given is not None:
        yield given
    elif settings.uses_groq and groq.key is not None:
        async with open_groq(
            api_key=groq.key,
            base_url=str(groq.groq_base_url),
            model=groq.groq_model,
            max_tokens=groq.groq_max_tokens,
            concurrency=settings.summary.summary_concurrency,
        ) as provider:
            yield provider
    else:
        yield OfflineProvider()


def _source(settings: SummarizerSettings, provider: Provider) -> SummarySource:
    return SummarySource(
        provider=provider.name,
        model=provider.model,
        prompt_version=PROMPT_VERSION,
        personal=settings.summary.summary_personal_data,
    )


def _upstream(
    settings: SummarizerSettings, provider: Provider, redis: Redis, breaker: Breaker
) -> Upstream:
    groq = settings.groq
    calls, tokens = groq.requests_per_minute, groq.tokens_per_minute
    is_limited = settings.uses_groq and bool(calls or tokens)
    name = f"{provider.name}:{provider.model}"
    return Upstream(
        provider,
        breaker=breaker,
        concurrency=settings.summary.summary_concurrency,
        timeout=groq.groq_timeout,
        budget=MinuteBudget(redis, name=name, calls=calls, tokens=tokens) if is_limited else None,
        most_tokens=groq.groq_max_tokens,
    )


def _subscriptions(parts: _Parts) -> list[Subscription]:
    summary = parts.settings.summary
    deadline = summary.summary_deadline + AFTERWORK
    subscriptions = [
        Subscription(
            stream=catalog.SUMMARIES,
            group=catalog.SUMMARIZER,
            handlers={SummaryRequested.type: _handler(parts)},
            is_settled=parts.summaries.is_settled,
            concurrency=summary.summary_concurrency,
            deadline=deadline,
        )
    ]
    if summary.summary_new_leads:
        on_lead_changed = LeadChangedHandler(_handler(parts))
        subscriptions.append(
            Subscription(
                stream=catalog.CHANGES,
                group=AUTO_SUMMARY,
                handlers={LeadChanged.type: on_lead_changed},
                is_settled=_never,
                concurrency=AUTO_SUMMARY_CONCURRENCY,
                deadline=deadline,
            )
        )
    return subscriptions


def _handler(parts: _Parts) -> SummaryRequestedHandler:
    return SummaryRequestedHandler(
        parts.summaries,
        parts.writer,
        cache_lead=parts.cache_lead,
        publisher=parts.publisher,
        replies=parts.replies,
        quota=parts.quota,
        metrics=parts.metrics,
        patience=parts.settings.summary.summary_deadline,
    )


async def _never(_event_id: UUID) -> bool:
    return False
