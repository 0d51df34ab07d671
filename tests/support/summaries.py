"""Summarizer parts for tests: stored leads, requests, and providers with scripted answers."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
from redis.asyncio import Redis

from services.summarizer.bootstrap import open_telling
from services.summarizer.handlers.summary_requested import SummaryRequestedHandler
from services.summarizer.prompts import Prompt
from services.summarizer.providers import Completion, Provider, ProviderError
from services.summarizer.storage.budget import DailyQuota
from services.summarizer.storage.records import SummarySource
from services.summarizer.storage.requests import open_requests
from services.summarizer.storage.results import SummaryResults, open_results
from services.summarizer.upstream import ModelCircuit, Upstream
from services.summarizer.writer import SummaryWriter
from services.syncer.storage.creation import Creation, LeadCreationRepository
from services.syncer.storage.lead_row import NewLead
from shared.cache.lead_cache import LeadCache, open_cache
from shared.domain.summary import FailureReason
from shared.events.data import SummaryRequested
from shared.events.envelope import Event, new_id
from shared.events.outcome import Outcome
from shared.settings import CacheSettings, StreamsSettings
from shared.storage.inbox import EventRecord
from shared.storage.pool import Database
from shared.streams.consuming.subscription import Handler
from shared.streams.ordering.layout import Divisions
from shared.streams.publisher import open_publisher
from shared.streams.replies import LateReplies
from tests.support.builders import lead_created, lead_fields

SOURCE = SummarySource(provider="tests", model="says-hello", prompt_version="1")
TIME_LIMIT = timedelta(seconds=20)
# More patient than a service: a handler's event would come again, a test's does not.
_CACHE = CacheSettings(cache_timeout=timedelta(seconds=10))


def answer(summary: Any = "Hello", next_action: Any = "Say hello back") -> str:
    """Return an answer as a model gives it."""
    return orjson.dumps({"summary": summary, "next_action": next_action}).decode()


class Says:
    """Gives the answers in turn, the last one over and over; counts how often it was asked."""

    name = "tests"
    model = "says-hello"

    def __init__(
        self, *answers: str | Completion | ProviderError, delay: timedelta = timedelta(0)
    ) -> None:
        self._answers = list(answers) or [answer()]
        self._delay = delay.total_seconds()
        self.prompts: list[Prompt] = []

    @property
    def calls(self) -> int:
        return len(self.prompts)

    async def complete(self, prompt: Prompt, *, timeout: timedelta) -> Completion:  # noqa: ARG002, ASYNC109 (the port's)
        self.prompts.append(prompt)
        await asyncio.sleep(self._delay)
        given = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(given, ProviderError):
            raise given
        if isinstance(given, Completion):
            return given
        return Completion(text=given, tokens_in=100, tokens_out=20)


class Waits(Says):
    """Answers when `go` is set; `asked` is set once a caller waits."""

    def __init__(self, *answers: str | ProviderError) -> None:
        super().__init__(*answers)
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self.most_at_once = 0
        self._at_once = 0

    async def complete(self, prompt: Prompt, *, timeout: timedelta) -> Completion:  # noqa: ASYNC109 (the port's)
        self.asked.set()
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await self.go.wait()
            return await super().complete(prompt, timeout=timeout)
        finally:
            self._at_once -= 1


def is_down(reason: FailureReason = FailureReason.PROVIDER_UNAVAILABLE) -> ProviderError:
    """Return an error that no retry helps."""
    return ProviderError("down", reason=reason, detail="It is down.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summarizer:
    """One summarizer process's parts around a provider."""

    handle: Handler
    results: SummaryResults
    cache: LeadCache
    replies: LateReplies

    async def ask(self, event: Event) -> Outcome:
        """Handle one event."""
        [outcome] = await self.handle([event])
        return outcome


@asynccontextmanager
async def open_summarizer(
    database: Database,
    redis: Redis,
    streams: StreamsSettings,
    provider: Provider,
    *,
    quota: int = 0,
    time_limit: timedelta = TIME_LIMIT,
    source: SummarySource = SOURCE,
) -> AsyncGenerator[Summarizer]:
    """Open the parts of one process; several summarizers on one database are several replicas."""
    async with (
        open_cache(_CACHE, default_url=streams.url) as cache,
        open_publisher(redis, Divisions(redis)) as publisher,
        open_requests(database, source) as requests,
        open_results(database, source) as results,
        open_telling(cache, publisher) as tell_readers,
    ):
        upstream = Upstream(
            provider,
            circuit=ModelCircuit(failures=10, pause=timedelta(seconds=15)),
            concurrency=500,
            timeout=timedelta(seconds=10),
        )
        replies = LateReplies(redis)
        handler = SummaryRequestedHandler(
            requests=requests,
            results=results,
            writer=SummaryWriter(upstream),
            tell_readers=tell_readers,
            replies=replies,
            quota=DailyQuota(redis, name="summaries", most=quota),
            timeout=time_limit,
        )
        yield Summarizer(handle=handler, results=results, cache=cache, replies=replies)


async def stored_lead(database: Database, **changes: Any) -> UUID:
    """Store a lead and return its id."""
    [lead_id] = await store(database, [_creation(**changes)])
    return lead_id


async def stored_leads(database: Database, number: int) -> list[UUID]:
    """Store some leads and return their ids."""
    return await store(database, [_creation() for _ in range(number)])


async def store(database: Database, creations: list[Creation]) -> list[UUID]:
    """Store leads in one transaction and return their ids."""
    await LeadCreationRepository(database).create(creations)
    return [creation.lead.id for creation in creations]


def _creation(**changes: Any) -> Creation:
    event = lead_created(lead_fields(**changes))
    data: Any = event.data
    lead = NewLead(
        id=data.lead_id,
        fields=data.lead,
        source=data.source,
        created_by=None,
    )
    return Creation(EventRecord.of(event), lead)


def requested(lead_id: UUID, *, event_id: UUID | None = None, **changes: Any) -> Event:
    """Return a summary-requested event; changes go to its data or to its envelope."""
    data = {name: changes.pop(name) for name in ("regenerate", "requested_by") if name in changes}
    return Event(
        id=event_id or new_id(),
        source="tests",
        subject=str(lead_id),
        data=SummaryRequested(lead_id=lead_id, **data),
        **changes,
    )
