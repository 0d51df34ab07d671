"""summary-requested: write the lead's summary once, whoever else asks, and tell all of them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Protocol, cast
from uuid import UUID, uuid5

import structlog

from services.summarizer.cache_writes import CacheLead
from services.summarizer.deadline import Deadline
from services.summarizer.lead_facts import LeadFacts
from services.summarizer.metrics import SummaryMetrics
from services.summarizer.storage.records import (
    Finished,
    Joined,
    Known,
    Running,
    SummaryRequest,
    SummaryResult,
)
from services.summarizer.storage.repository import SummaryRepository
from services.summarizer.writer import SummaryWriter, Written
from shared.domain.errors import PermanentError, TransientError
from shared.domain.summary import FailureReason, SummaryFailure
from shared.events.envelope import Event, now
from shared.events.lead_events import LeadChanged
from shared.events.outcome import Outcome, OutcomeStatus
from shared.events.summary_events import SummaryRequested
from shared.storage.inbox import EventRecord
from shared.storage.lead_document import LeadDocument
from shared.streams.publisher import Publisher
from shared.streams.replies import LateReplies, Reply

log = structlog.get_logger(__name__)

ANSWERED_LATER = Outcome(OutcomeStatus.JOINED, answered=False)

# How often a request may find that the work it was to join has ended meanwhile.
OPENINGS = 3

_REPLAYED = SummaryFailure(
    FailureReason.REPLAYED, "A replay has no model called; ask for the summary instead."
)
_OVERTAKEN = SummaryFailure(FailureReason.EXPIRED, "The request was given up.")
_QUOTA = SummaryFailure(
    FailureReason.QUOTA, "You have had today's share of summaries.", timedelta(hours=1)
)


class Quota(Protocol):
    """How many summaries a user may have written per day."""

    async def take(self, user: str, request: UUID, *, day: date) -> bool: ...

    async def give_back(self, user: str, request: UUID, *, day: date) -> None: ...


@dataclass(frozen=True, slots=True)
class _Work:
    """A request under way in this process, and where its reply will go."""

    reply_to: str | None
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class SummaryRequestedHandler:
    """Applies requests. `patience` is how long one may take, from its first delivery on."""

    def __init__(
        self,
        summaries: SummaryRepository,
        writer: SummaryWriter,
        *,
        cache_lead: CacheLead,
        publisher: Publisher,
        replies: LateReplies,
        quota: Quota,
        metrics: SummaryMetrics,
        patience: timedelta,
    ) -> None:
        self._summaries = summaries
        self._writer = writer
        self._cache_lead = cache_lead
        self._publisher = publisher
        self._replies = replies
        self._quota = quota
        self._metrics = metrics
        self._patience = patience
        self._at_work: dict[UUID, _Work] = {}

    async def __call__(self, events: Sequence[Event]) -> Sequence[Outcome]:
        """Apply each event; also those applied before, whose followers may not have heard."""
        return [await self._apply(event) for event in events]

    async def _apply(self, event: Event) -> Outcome:
        _check(event)
        while (earlier := self._at_work.get(event.id)) is not None:
            # Published twice, when the answer to the first was lost: one reply does.
            if event.reply_to in {None, earlier.reply_to}:
                return ANSWERED_LATER
            # Asked again through another process, to which the first's reply does not go.
            await earlier.ended.wait()
        work = self._at_work[event.id] = _Work(event.reply_to)
        try:
            return await self._see_to(event)
        finally:
            del self._at_work[event.id]
            work.ended.set()

    async def _see_to(self, event: Event) -> Outcome:
        request = _request(event, patience=self._patience)
        opened = await self._open_within_quota(event, request)
        if isinstance(opened, Running):
            opened = await self._write(request, opened, background=_data(event).background)
        self._metrics.count_end(opened)
        if isinstance(opened, Joined):
            return ANSWERED_LATER
        if event.replay_id is not None and opened.outcome.repeated:
            opened = await self._restore(opened)
        else:
            await self._announce(opened)
        return opened.outcome

    async def _restore(self, finished: Finished) -> Finished:
        """Bring back what a replayed request once wrote, where the lead has lost it."""
        restored = await self._summaries.restore(finished.id)
        if restored is None:
            return finished
        await self._announce(restored)
        return restored

    async def _open_within_quota(
        self, event: Event, request: SummaryRequest
    ) -> Running | Joined | Finished:
        if not event.may_call_model:
            return await self._open(replace(request, refusal=_REPLAYED), take_over=False)
        user, day = request.requested_by, event.time.date()
        if user is None:
            return await self._open(request)
        if not await self._quota.take(user, event.id, day=day):
            return await self._open(replace(request, refusal=_QUOTA))
        opened = await self._open(request)
        if not _takes_a_call(opened):
            await self._quota.give_back(user, event.id, day=day)
        return opened

    async def _open(
        self, request: SummaryRequest, *, take_over: bool = True
    ) -> Running | Joined | Finished:
        for _ in range(OPENINGS):
            opened = await self._summaries.open(request)
            if not isinstance(opened, Known):
                return opened
            resumed = await self._summaries.resume(request, take_over=take_over)
            if isinstance(resumed, Finished):
                return replace(resumed, outcome=replace(resumed.outcome, repeated=True))
            if resumed is not None:
                return resumed
        raise TransientError("The request that this one was to join keeps ending")

    async def _write(
        self, request: SummaryRequest, running: Running, *, background: bool
    ) -> Joined | Finished:
        written = await self._writer.write(
            LeadFacts.model_validate_json(running.input),
            deadline=Deadline.after(max(running.deadline - now(), timedelta(0))),
            background=background,
        )
        self._metrics.count_writing(written)
        log.info("summary.written", **_account(running, written))
        finished = await self._summaries.finish(
            SummaryResult(
                running=running,
                result=written.result,
                tokens_in=written.usage.tokens_in,
                tokens_out=written.usage.tokens_out,
                attempts=written.usage.calls,
                latency=written.latency,
            )
        )
        if finished is not None:
            return finished
        # Another worker took it over, or the sweeper ended it, or it went with its lead.
        opened = await self._open(replace(request, refusal=_OVERTAKEN), take_over=False)
        return Joined() if isinstance(opened, Running) else opened

    async def _announce(self, finished: Finished) -> None:
        """Bring cache, readers and waiting requests up to date, in that order."""
        if finished.document is not None:
            await self._cache_lead(finished.document)
            await self._publisher.publish(_changed(finished.id, finished.document))
        if finished.followers:
            followers = await self._summaries.resolve(finished.id)
            await self._replies.send(
                [
                    Reply(follower.reply_to, follower.id, finished.outcome)
                    for follower in followers
                    if follower.reply_to is not None
                ]
            )


def _data(event: Event) -> SummaryRequested:
    return cast("SummaryRequested", event.data)


def _request(event: Event, *, patience: timedelta) -> SummaryRequest:
    data = _data(event)
    return SummaryRequest(
        event=EventRecord.of(event),
        lead_id=data.lead_id,
        requested_by=data.requested_by,
        reply_to=event.reply_to,
        regenerate=data.regenerate,
        deadline=now() + patience,
    )


def _account(running: Running, written: Written) -> dict[str, object]:
    """Return what the log says of a writing: nothing of what was read or written."""
    failure = written.result if isinstance(written.result, SummaryFailure) else None
    return {
        "summary_id": str(running.id),
        "lead_id": str(running.lead_id),
        "reason": failure.reason if failure else None,
        "attempts": written.usage.calls,
        "tokens_in": written.usage.tokens_in,
        "tokens_out": written.usage.tokens_out,
        "seconds": round(written.latency.total_seconds(), 3),
    }


def _takes_a_call(opened: Running | Joined | Finished) -> bool:
    if isinstance(opened, Finished):
        return not opened.reused and opened.outcome.status is not OutcomeStatus.NOT_FOUND
    return isinstance(opened, Running)


def _check(event: Event) -> None:
    """Refuse what PostgreSQL cannot store before it fails for a whole batch."""
    data = _data(event)
    texts = (event.source, event.subject, event.correlation_id, event.reply_to, data.requested_by)
    if any(text is not None and "\x00" in text for text in texts):
        raise PermanentError("NUL in a text of the event", code="invalid-data")


def _changed(summary_id: UUID, lead: LeadDocument) -> Event:
    # The same id however often it is told.
    return Event(
        id=uuid5(summary_id, "lead-changed"),
        source="summarizer",
        subject=str(lead.id),
        data=LeadChanged(lead_id=lead.id, lead_version=lead.version, change="summarised"),
    )
