"""`/leads/{id}/summary`: have a lead's summary and next action written by a language model."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from math import ceil
from typing import Any
from uuid import UUID

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, StrictBool

from services.api.exchange import Exchange
from services.api.handlers.leads import LEAD_KEY, LEAD_LINKS, Lead
from services.api.handlers.operations import ACCEPTED, Accepted, accepted_response, problem_of
from services.api.lead_lookup import NOT_FOUND, LeadLookup
from services.api.server.routing import Call
from services.api.storage.history import LeadHistory
from services.api.web.body import read_optional_json_object
from services.api.web.endpoint import JSON, Answer, Body, Endpoint, Header, Parameter, Tag
from services.api.web.headers import (
    ETAG,
    IDEMPOTENCY_KEY,
    PREFER,
    IdempotencyKeys,
    event_id_of,
    preferred_type,
    prefers_async,
)
from services.api.web.problems import Problem, problem_body, validation_problem
from services.api.web.query import canonical_id
from services.api.web.responses import lead_response
from services.api.web.streaming import BUFFERING, EVENT_STREAM, event_stream, message
from shared.domain.errors import UnavailableError
from shared.domain.summary import FailureReason
from shared.events.data import SummaryRequested
from shared.events.envelope import Event, now
from shared.events.outcome import Outcome, OutcomeStatus

# The ids of events with an Idempotency-Key are made of this too: it must not change.
REQUEST = "POST /leads/{id}/summary"
RETRY_AFTER = timedelta(seconds=10)
# How often a stream looks whether the summarizer has begun.
POLL_EVERY = timedelta(milliseconds=200)

# Reasons that are not the summarizer or the model being away.
CODES = {
    FailureReason.INVALID_OUTPUT: "invalid-model-output",
    FailureReason.RATE_LIMITED: "rate-limited",
    FailureReason.QUOTA: "rate-limited",
}

REGENERATE = Parameter(
    name="regenerate",
    description="Write a new summary even when nothing has changed",
    type=bool,
)
SUMMARY_CACHE = Header(
    name="X-Summary-Cache",
    description="`hit` when nothing had changed and no model was called, else `miss`",
    example="miss",
    is_required=False,
)


class SummaryInput(BaseModel):
    """How a summary is to be written; the same as the parameter of the address."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    regenerate: StrictBool = False


WISH = Body(content={JSON: SummaryInput}, examples={JSON: {"regenerate": False}}, is_required=False)


class SummaryProgress:
    """A request as messages: `queued`, `running` and its end; `accepted` when that takes long."""

    def __init__(self, exchange: Exchange, history: LeadHistory, *, timeout: timedelta) -> None:
        self._exchange = exchange
        self._history = history
        self._timeout = timeout

    async def messages(
        self, event: Event, *, conclude: Callable[[Outcome], bytes]
    ) -> AsyncGenerator[bytes]:
        """Publish the event and yield its messages; `conclude` makes one of the outcome."""
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
            yield message("accepted", Accepted(id=event.id, status="pending").to_body())
        else:
            yield conclude(outcome)

    async def _has_begun(self, event: Event) -> bool:
        # Only for show: when it cannot be read now, the next round may.
        with contextlib.suppress(UnavailableError, TimeoutError):
            async with asyncio.timeout(POLL_EVERY.total_seconds()):
                return await self._history.has_summary_begun(event.id)
        return False


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
        body_timeout: timedelta,
    ) -> None:
        self._exchange = exchange
        self._keys = keys
        self._lookup = lookup
        self._progress = progress
        self._timeout = summary_timeout
        self._body_timeout = body_timeout

    @Endpoint(
        "POST",
        "/leads/{id}/summary",
        id="summariseLead",
        tag=Tag.SUMMARIES,
        summary="Have a lead's summary and next action written",
        explanation="Answered with the lead once a language model has written both. Nothing is "
        "written anew while the lead is what it was when its summary was written.\n\n"
        "Where `Accept` prefers `text/event-stream` to JSON, the answer is a stream of events: "
        "`queued`, `running`, and in the end `summarised` with the lead, `failed` with the "
        "problem, or `accepted` with the operation when it takes longer.",
        parameters=(LEAD_KEY, REGENERATE, IDEMPOTENCY_KEY, PREFER),
        body=WISH,
        answers=(
            Answer(
                status=200,
                description="The lead with its summary",
                content={JSON: Lead},
                on_request=(EVENT_STREAM,),
                headers=(replace(ETAG, is_required=False), BUFFERING, SUMMARY_CACHE),
                links=LEAD_LINKS,
            ),
            ACCEPTED,
        ),
        problems=(
            *(
                "lead-not-found",
                "lead-not-stored-yet",
                "key-reused",
                "rate-limited",
                "operation-failed",
            ),
            *("invalid-model-output", "summaries-unavailable", "unavailable"),
        ),
        is_bounded=True,
    )
    async def request(self, call: Call) -> web.StreamResponse:
        """Answer 200 with the lead, or 202 when that takes longer."""
        regenerate = await self._regenerate(call)
        lead_id = await self._lookup.find_id(canonical_id(call.param, missing=NOT_FOUND))
        event = self._event(call, lead_id, regenerate=regenerate)
        await self._keys.check_key(call.request, event.id, event.data.intent)
        if prefers_async(call.request):
            await self._exchange.publish(event)
            return accepted_response(event.id)
        if preferred_type(call.request.headers, JSON, EVENT_STREAM) == EVENT_STREAM:
            conclude = partial(_conclusion, instance=call.request.rel_url.raw_path)
            return await event_stream(self._progress.messages(event, conclude=conclude))
        outcome = await self._exchange.publish_and_await(event, within=self._timeout)
        return accepted_response(event.id) if outcome is None else _response(outcome)

    async def _regenerate(self, call: Call) -> bool:
        value = call.request.query.get(REGENERATE.name, "false").lower()
        if value not in {"true", "false"}:
            raise validation_problem({REGENERATE.name: "Must be true or false"})
        if not call.request.body_exists:
            return value == "true"
        body = await read_optional_json_object(call.request, within=self._body_timeout)
        return call.parse(SummaryInput, body).regenerate or value == "true"

    def _event(self, call: Call, lead_id: UUID, *, regenerate: bool) -> Event:
        return call.event(
            SummaryRequested(lead_id=lead_id, requested_by=call.user.id, regenerate=regenerate),
            id=event_id_of(call.request, user=call.user, operation=REQUEST),
            subject=lead_id,
            reply_to=self._exchange.reply_address,
            expires=now() + self._timeout,
        )


def _response(outcome: Outcome) -> web.StreamResponse:
    match outcome.status:
        case OutcomeStatus.SUMMARISED | OutcomeStatus.REUSED:
            lead = orjson.loads(outcome.body)
            response = lead_response(outcome.body, version=lead["version"])
            is_reused = outcome.status is OutcomeStatus.REUSED
            response.headers[SUMMARY_CACHE.name] = "hit" if is_reused else "miss"
            return response
        case OutcomeStatus.FAILED:
            raise _failure(orjson.loads(outcome.body))
        case _:
            raise problem_of(outcome)


def _conclusion(outcome: Outcome, *, instance: str) -> bytes:
    """Return the last event of a stream: the lead, or the problem."""
    try:
        _response(outcome)
    except Problem as problem:
        return message("failed", problem_body(problem, instance=instance))
    return message("summarised", outcome.body)


def _failure(body: Mapping[str, Any]) -> Problem:
    """Return the problem for a summarizer's `reason`, `detail` and `retryAfter`."""
    reason = body["reason"]
    code = CODES.get(reason, "summaries-unavailable")
    seconds = body.get("retryAfter") or RETRY_AFTER.total_seconds()
    return Problem(
        code,
        body.get("detail") or "There is no summary this time",
        # A newer summarizer than this may send reasons that clients do not know.
        members={"reason": reason} if reason in set(FailureReason) else {},
        headers={"Retry-After": str(ceil(seconds))} if code != "invalid-model-output" else {},
    )
