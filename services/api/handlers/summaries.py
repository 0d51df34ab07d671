"""`/leads/{id}/summary`: have a lead's summary and next action written."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import timedelta
from functools import partial
from math import ceil
from typing import Any
from uuid import UUID

import orjson
from aiohttp import web

from services.api.exchange import Exchange
from services.api.handlers.lookup import LeadLookup
from services.api.handlers.operations import accepted_response, ended_otherwise
from services.api.server.routing import Call
from services.api.storage.history import LeadHistory
from services.api.web.headers import IdempotencyKeys, accepts_events, event_id_of, prefers_async
from services.api.web.problems import Problem, problem_body, validation_problem
from services.api.web.query import canonical_id
from services.api.web.responses import lead_response
from services.api.web.streaming import event_stream, message
from shared.domain.errors import UnavailableError
from shared.domain.summary import FailureReason
from shared.events.envelope import Event, now
from shared.events.outcome import Outcome, OutcomeStatus
from shared.events.summary_events import SummaryRequested

# How a request for a summary gets on, as messages of an event stream.

POLL_EVERY = timedelta(milliseconds=200)


class SummaryProgress:
    """Tells `queued`, `running`, and how it ended; `accepted` when that is still open."""

    def __init__(self, exchange: Exchange, history: LeadHistory, *, timeout: timedelta) -> None:
        self._exchange = exchange
        self._history = history
        self._timeout = timeout

    async def messages(
        self, event: Event, *, conclude: Callable[[Outcome], bytes]
    ) -> AsyncGenerator[bytes]:
        """Publish the event and yield what becomes of it; `conclude` words the outcome."""
        identity = orjson.dumps({"id": str(event.id)})
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._timeout.total_seconds()
        has_begun = False
        async with self._exchange.publishing(event) as reply:
            yield message("queued", identity)
            outcome = None
            while outcome is None and loop.time() < give_up and not self._exchange.has_stopped:
                outcome = await self._exchange.await_reply(reply, within=POLL_EVERY)
                if outcome is None and not has_begun and await self._has_begun(event):
                    has_begun = True
                    yield message("running", identity)
        if outcome is None:
            yield message("accepted", orjson.dumps({"id": str(event.id), "status": "pending"}))
        else:
            yield conclude(outcome)

    async def _has_begun(self, event: Event) -> bool:
        # Only for show: what cannot be told now may be next time.
        with contextlib.suppress(UnavailableError, TimeoutError):
            async with asyncio.timeout(POLL_EVERY.total_seconds()):
                return await self._history.has_summary_begun(event.id)
        return False


REQUEST = "POST /leads/{id}/summary"
RETRY_AFTER = timedelta(seconds=10)

# Reasons that are not the summarizer or the model being away.
CODES = {
    FailureReason.INVALID_OUTPUT: "invalid-model-output",
    FailureReason.RATE_LIMITED: "rate-limited",
    FailureReason.QUOTA: "rate-limited",
}


class SummaryHandlers:
    """Asks the summarizer."""

    def __init__(
        self,
        *,
        exchange: Exchange,
        keys: IdempotencyKeys,
        lookup: LeadLookup,
        progress: SummaryProgress,
        summary_timeout: timedelta,
    ) -> None:
        self._exchange = exchange
        self._keys = keys
        self._lookup = lookup
        self._progress = progress
        self._timeout = summary_timeout

    async def request(self, call: Call) -> web.StreamResponse:
        """POST /leads/{id or externalId}/summary: 200 with the lead, 202 when it takes longer."""
        regenerate = _regenerate(call.request)
        lead_id = await self._lookup.find_id(canonical_id(call.param, missing="lead-not-found"))
        event = self._event(call, lead_id, regenerate=regenerate)
        await self._keys.check_key(call.request, event.id, event.data.intent())
        if prefers_async(call.request):
            await self._exchange.publish(event)
            return accepted_response(event.id)
        if accepts_events(call.request):
            conclude = partial(_conclusion, instance=call.request.rel_url.raw_path)
            return await event_stream(self._progress.messages(event, conclude=conclude))
        outcome = await self._exchange.publish_and_await(event, within=self._timeout)
        return accepted_response(event.id) if outcome is None else _response(outcome)

    def _event(self, call: Call, lead_id: UUID, *, regenerate: bool) -> Event:
        return Event(
            id=event_id_of(call.request, user=call.user, operation=REQUEST),
            source="api",
            subject=str(lead_id),
            correlation_id=call.id,
            reply_to=self._exchange.reply_address,
            expires=now() + self._timeout,
            data=SummaryRequested(
                lead_id=lead_id, requested_by=call.user.id, regenerate=regenerate
            ),
        )


def _regenerate(request: web.BaseRequest) -> bool:
    value = request.query.get("regenerate", "false").lower()
    if value not in {"true", "false"}:
        raise validation_problem({"regenerate": "Must be true or false"})
    return value == "true"


def _response(outcome: Outcome) -> web.StreamResponse:
    match outcome.status:
        case OutcomeStatus.SUMMARISED | OutcomeStatus.REUSED:
            lead = orjson.loads(outcome.body)
            response = lead_response(outcome.body, version=lead["version"])
            is_reused = outcome.status is OutcomeStatus.REUSED
            response.headers["X-Summary-Cache"] = "hit" if is_reused else "miss"
            return response
        case OutcomeStatus.FAILED:
            raise _failure(orjson.loads(outcome.body))
        case _:
            raise ended_otherwise(outcome)


def _conclusion(outcome: Outcome, *, instance: str) -> bytes:
    """Return the last event of a stream: the lead, or the problem."""
    try:
        _response(outcome)
    except Problem as problem:
        return message("failed", problem_body(problem, instance=instance))
    return message("summarised", outcome.body)


def _failure(body: Mapping[str, Any]) -> Problem:
    """Return the problem that a summarizer's `reason`, `detail` and `retryAfter` amount to."""
    reason = body["reason"]
    code = CODES.get(reason, "summaries-unavailable")
    seconds = body.get("retryAfter") or RETRY_AFTER.total_seconds()
    return Problem(
        code,
        body.get("detail") or "There is no summary this time",
        # Of a newer summarizer than this there may be reasons that clients do not know either.
        members={"reason": reason} if reason in set(FailureReason) else {},
        headers={"Retry-After": str(ceil(seconds))} if code != "invalid-model-output" else {},
    )
