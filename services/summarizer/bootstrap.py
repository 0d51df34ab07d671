"""Opens what the summarizer needs and joins it: the only place that knows every part."""

import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from redis.asyncio import Redis

from services.summarizer.handlers.lead_changed import LeadChangedHandler
from services.summarizer.handlers.summary_requested import SummaryRequestedHandler, TellReaders
from services.summarizer.prompts import PROMPT_VERSION
from services.summarizer.providers import Provider
from services.summarizer.providers.groq import open_groq
from services.summarizer.providers.offline import OfflineProvider
from services.summarizer.settings import SummarizerSettings
from services.summarizer.storage.budget import DailyQuota, MinuteBudget
from services.summarizer.storage.records import SummarySource
from services.summarizer.storage.requests import open_requests
from services.summarizer.storage.results import open_results
from services.summarizer.sweeper import Sweeper
from services.summarizer.upstream import ModelCircuit, Upstream
from services.summarizer.writer import SummaryWriter
from shared.batcher import open_batcher
from shared.cache.lead_cache import LeadCache, open_cache
from shared.events import catalog
from shared.events.data import LeadChanged, SummaryRequested
from shared.events.envelope import Event
from shared.redis_connections import check_server, open_redis
from shared.storage.dead_letters import DeadLetterRepository
from shared.storage.lead_document import LeadDocument
from shared.storage.pool import Database, open_database
from shared.streams.consuming.subscription import Subscription
from shared.streams.ordering.layout import Divisions
from shared.streams.publisher import Publisher, open_publisher
from shared.streams.replies import LateReplies

# The group that summarises new leads handles few at a time: the rest of the process is left to
# requests of people.
AUTO_SUMMARY = "auto-summary"
AUTO_SUMMARY_CONCURRENCY = 4

CIRCUIT_FAILURES = 10
CIRCUIT_PAUSE = timedelta(seconds=15)

# What storing and announcing a summary may take on top of writing it.
AFTER_WRITING = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class SummarizerContext:
    """What runs in a summarizer and what it runs on."""

    database: Database
    redis: Redis
    provider: Provider
    subscriptions: tuple[Subscription, ...]
    dead_letters: DeadLetterRepository
    sweeper: Sweeper
    budget: MinuteBudget | None
    upstream: Upstream
    circuit: ModelCircuit


@contextlib.asynccontextmanager
async def bootstrap(
    settings: SummarizerSettings, *, provider: Provider | None = None
) -> AsyncGenerator[SummarizerContext]:
    """Open everything, yield it joined, and close it again. `provider` replaces the real one."""
    async with (
        open_database(settings.postgres) as database,
        open_redis(settings.streams) as redis,
        open_cache(settings.cache, default_url=settings.streams.url) as cache,
        open_publisher(redis, Divisions(redis)) as publisher,
        _provider(settings, provider) as chosen,
        open_requests(database, _source(settings, chosen)) as requests,
        open_results(database, _source(settings, chosen)) as results,
        open_telling(cache, publisher) as tell_readers,
    ):
        await check_server(redis, setting="REDIS_URL")
        circuit = ModelCircuit(failures=CIRCUIT_FAILURES, pause=CIRCUIT_PAUSE)
        budget = _budget(settings, chosen, redis)
        upstream = _upstream(settings, chosen, budget, circuit)
        replies = LateReplies(redis)
        on_summary_requested = SummaryRequestedHandler(
            requests=requests,
            results=results,
            writer=SummaryWriter(upstream),
            tell_readers=tell_readers,
            replies=replies,
            quota=DailyQuota(redis, name="summaries", most=settings.daily_quota),
            timeout=settings.summary.summary_deadline,
        )
        yield SummarizerContext(
            database=database,
            redis=redis,
            provider=chosen,
            subscriptions=tuple(_subscriptions(settings, on_summary_requested)),
            dead_letters=DeadLetterRepository(database),
            sweeper=Sweeper(results, replies),
            budget=budget,
            upstream=upstream,
            circuit=circuit,
        )


@contextlib.asynccontextmanager
async def open_telling(cache: LeadCache, publisher: Publisher) -> AsyncGenerator[TellReaders]:
    """Tell readers of summaries for the length of the block; what ends together is told together.

    The cache comes first: who is told of a version must not read an older one there.
    """

    async def tell(news: Sequence[tuple[Event, LeadDocument]]) -> Sequence[None]:
        await cache.put([lead for _, lead in news])
        changes = [(cause, lead.id, lead.version, "summarised") for cause, lead in news]
        await publisher.announce(changes, source="summarizer")
        return [None] * len(news)

    async with open_batcher(tell, name="readers told") as telling:
        yield lambda cause, lead: telling.submit((cause, lead))


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


def _budget(settings: SummarizerSettings, provider: Provider, redis: Redis) -> MinuteBudget | None:
    groq = settings.groq
    calls, tokens = groq.requests_per_minute, groq.tokens_per_minute
    if not settings.uses_groq or not (calls or tokens):
        return None
    return MinuteBudget(
        redis,
        name=f"{provider.name}:{provider.model}",
        account=groq.account,
        calls=calls,
        tokens=tokens,
    )


def _upstream(
    settings: SummarizerSettings,
    provider: Provider,
    budget: MinuteBudget | None,
    circuit: ModelCircuit,
) -> Upstream:
    groq = settings.groq
    return Upstream(
        provider,
        circuit=circuit,
        concurrency=settings.summary.summary_concurrency,
        timeout=groq.groq_timeout,
        budget=budget,
        most_tokens=groq.groq_max_tokens,
    )


def _subscriptions(
    settings: SummarizerSettings, on_summary_requested: SummaryRequestedHandler
) -> list[Subscription]:
    summary = settings.summary
    deadline = summary.summary_deadline + AFTER_WRITING
    subscriptions = [
        Subscription(
            stream=catalog.SUMMARIES,
            group=catalog.SUMMARIZER,
            handlers={SummaryRequested.type: on_summary_requested},
            is_settled=on_summary_requested.results.is_settled,
            concurrency=summary.summary_concurrency,
            deadline=deadline,
        )
    ]
    if summary.summary_new_leads:
        subscriptions.append(
            Subscription(
                stream=catalog.CHANGES,
                group=AUTO_SUMMARY,
                handlers={LeadChanged.type: LeadChangedHandler(on_summary_requested)},
                is_settled=_never,
                concurrency=AUTO_SUMMARY_CONCURRENCY,
                deadline=deadline,
            )
        )
    return subscriptions


async def _never(_event_id: UUID) -> bool:
    return False
