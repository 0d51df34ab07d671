"""summary-requested: write the lead's summary once for all who ask, and answer all of them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from uuid import UUID

import structlog

from services.summarizer.prompts import LeadFacts
from services.summarizer.storage.budget import DailyQuota
from services.summarizer.storage.records import JOINED, Running, SummaryEnd, SummaryRequest
from services.summarizer.storage.requests import SummaryRequests
from services.summarizer.storage.results import SummaryResults
from services.summarizer.writer import SummaryWriter, Written
from shared.domain.errors import PermanentError
from shared.domain.summary import FailureReason, SummaryFailure
from shared.events.data import SummaryRequested
from shared.events.envelope import Event, now
from shared.events.outcome import Outcome, OutcomeStatus
from shared.observability.metrics import counter, histogram
from shared.storage.inbox import EventRecord
from shared.storage.lead_document import LeadDocument
from shared.streams.replies import LateReplies, Reply

log = structlog.get_logger(__name__)

TellReaders = Callable[[Event, LeadDocument], Awaitable[None]]
"""Brings the cache, and then all who follow changes, to what an event made of a lead."""

_REPLAYED = SummaryFailure(
    FailureReason.REPLAYED, "A replay has no model called; ask for the summary instead."
)
_OVERTAKEN = SummaryFailure(FailureReason.EXPIRED, "The request was given up.")
_QUOTA = SummaryFailure(
    FailureReason.QUOTA, "You have had today's share of summaries.", timedelta(hours=1)
)

_SECONDS = histogram(
    "leads_summary_seconds",
    "From the delivery of a request for a summary to its end: written, failed, without a call of "
    "the model (reused, joined, not-found).",
    ["end"],
    buckets=(0.005, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
    start=[["written"], ["failed"], ["reused"], ["joined"], ["not-found"]],
)
_FAILURES = counter(
    "leads_summary_failures_total",
    "Requests for a summary that failed, by reason.",
    ["reason"],
    start=[[reason] for reason in FailureReason],
)

# Requests that end so did not have a model called.
_FREE = {OutcomeStatus.JOINED, OutcomeStatus.REUSED, OutcomeStatus.NOT_FOUND}


@dataclass(frozen=True, slots=True)
class _Delivery:
    """An event that this process is handling, and where its reply will go."""

    reply_to: str | None
    ended: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryRequestedHandler:
    """Handles requests. `timeout` is how long one may take, from its first delivery on."""

    requests: SummaryRequests
    results: SummaryResults
    writer: SummaryWriter
    tell_readers: TellReaders
    replies: LateReplies
    quota: DailyQuota
    timeout: timedelta
    _deliveries: dict[UUID, _Delivery] = field(default_factory=dict[UUID, _Delivery], init=False)

    async def __call__(self, events: Sequence[Event[SummaryRequested]]) -> Sequence[Outcome]:
        """Handle each event, also one handled before: its followers may not have been answered."""
        return [await self._handle_alone(event) for event in events]

    async def _handle_alone(self, event: Event[SummaryRequested]) -> Outcome:
        """Handle an event while no other delivery of it is being handled in this process."""
        _refuse_nul(event)
        while (earlier := self._deliveries.get(event.id)) is not None:
            # Published twice, when the answer to the first was lost: one reply does.
            if event.reply_to in {None, earlier.reply_to}:
                return JOINED
            # Asked again through another process, to which the first's reply does not go.
            await earlier.ended.wait()
        delivery = self._deliveries[event.id] = _Delivery(event.reply_to)
        try:
            return await self._handle(event)
        finally:
            del self._deliveries[event.id]
            delivery.ended.set()

    async def _handle(self, event: Event[SummaryRequested]) -> Outcome:
        started = time.monotonic()
        request = _to_request(event, timeout=self.timeout)
        opened = await self._open(event, request)
        if isinstance(opened, Running):
            end = await self._write(request, opened, background=event.data.background)
        else:
            end = opened
        _SECONDS.labels(_end_of(end)).observe(time.monotonic() - started)
        if event.replay_id is not None and end.outcome.repeated:
            # No news. A lead that was lost gets its summary back with the rest of it.
            return end.outcome
        await self._announce(event, end)
        return end.outcome

    async def _open(
        self, event: Event[SummaryRequested], request: SummaryRequest
    ) -> Running | SummaryEnd:
        """Open a request, and count it against its user's quota if it has a model called."""
        if not event.may_call_model:
            return await self.requests.open(replace(request, refusal=_REPLAYED), take_over=False)
        user, day = request.requested_by, event.time.date()
        if user is None:
            return await self.requests.open(request)
        if not await self.quota.take(user, event.id, day=day):
            return await self.requests.open(replace(request, refusal=_QUOTA))
        opened = await self.requests.open(request)
        if isinstance(opened, SummaryEnd) and opened.outcome.status in _FREE:
            await self.quota.give_back(user, event.id, day=day)
        return opened

    async def _write(
        self, request: SummaryRequest, running: Running, *, background: bool
    ) -> SummaryEnd:
        written = await self.writer.write(
            LeadFacts.model_validate_json(running.input),
            within=max(running.deadline - now(), timedelta(0)),
            background=background,
        )
        self._log(running, written)
        end = await self.results.finish(running, written)
        if end is not None:
            return end
        # Another worker took it over, or the sweeper ended it, or its lead was deleted.
        opened = await self.requests.open(replace(request, refusal=_OVERTAKEN), take_over=False)
        return SummaryEnd(outcome=JOINED) if isinstance(opened, Running) else opened

    def _log(self, running: Running, written: Written) -> None:
        """Say how writing went: nothing of what was read or written."""
        account = {
            "event_id": running.id,
            "lead_id": running.lead_id,
            "model": self.writer.model,
            "attempts": written.usage.calls,
            "tokens_in": written.usage.tokens_in,
            "tokens_out": written.usage.tokens_out,
            "ms": round(written.latency / timedelta(milliseconds=1)),
        }
        if isinstance(written.result, SummaryFailure):
            reason = written.result.reason
            _FAILURES.labels(reason).inc()
            log.warning("summary.failed", **account, reason=reason, error=written.error)
        else:
            log.info("summary.written", **account)

    async def _announce(self, cause: Event[SummaryRequested], end: SummaryEnd) -> None:
        """Bring cache, readers and waiting requests up to date, in that order."""
        if end.lead is not None:
            await self.tell_readers(cause, end.lead)
        if end.followers:
            followers = await self.results.resolve(cause.id)
            await self.replies.send(
                [
                    Reply(follower.reply_to, follower.id, end.outcome)
                    for follower in followers
                    if follower.reply_to is not None
                ]
            )


def _end_of(end: SummaryEnd) -> str:
    status = end.outcome.status
    return "written" if status is OutcomeStatus.SUMMARISED else status


def _refuse_nul(event: Event[SummaryRequested]) -> None:
    """Refuse what PostgreSQL cannot store before it fails for a whole batch."""
    texts = (
        event.source,
        event.subject,
        event.correlation_id,
        event.reply_to,
        event.data.requested_by,
    )
    if any(text is not None and "\x00" in text for text in texts):
        raise PermanentError("NUL in a text of the event", code="invalid-data")


def _to_request(event: Event[SummaryRequested], *, timeout: timedelta) -> SummaryRequest:
    return SummaryRequest(
        event=EventRecord.of(event),
        lead_id=event.data.lead_id,
        requested_by=event.data.requested_by,
        reply_to=event.reply_to,
        regenerate=event.data.regenerate,
        deadline=now() + timeout,
    )
