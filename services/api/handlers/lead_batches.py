"""`/leads/batch`: many leads in one request, each with a result of its own."""

import asyncio
import json
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, Literal, cast
from uuid import UUID

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, SkipValidation

from services.api.exchange import Exchange
from services.api.handlers.lead_inputs import LeadInput, LeadUpsert
from services.api.handlers.lead_writes import EXAMPLE_INPUT, refusal
from services.api.handlers.leads import EXAMPLE_LEAD, Lead
from services.api.handlers.operations import Accepted
from services.api.lead_lookup import LeadTargets
from services.api.server.routing import Call
from services.api.settings import HttpSettings
from services.api.web.body import read_json_object
from services.api.web.endpoint import Answer, Body, Endpoint, Tag
from services.api.web.headers import (
    IDEMPOTENCY_KEY,
    PREFER,
    IdempotencyKeys,
    event_id_of,
    lead_id_of,
    prefers_async,
    row_event_id,
)
from services.api.web.problems import Problem
from services.api.web.responses import Representation, json_response, with_example
from shared.domain.lead import LeadSource, in_turns
from shared.events.data import LeadCreated, LeadUpserted, under_key
from shared.events.envelope import Event
from shared.events.outcome import Outcome, OutcomeStatus

# The ids of events with an Idempotency-Key are made of this too: it must not change.
WRITE = "POST /leads/batch"
BODY_LIMIT = 1024 * 1024
MOST_ROWS = 500
# Rows after which other requests get a turn.
STRETCH = 50

STATUSES = {OutcomeStatus.CREATED: 201, OutcomeStatus.UPDATED: 200}

EXAMPLE_BATCH: dict[str, Any] = {
    "mode": "upsert",
    "leads": [
        EXAMPLE_INPUT,
        EXAMPLE_INPUT
        | {"externalId": "2b8e4f0a-3c6d-4e5f-8a9b-7c6d5e4f3a2b", "email": "ada.king@example.com"},
    ],
}


class LeadBatch(BaseModel):
    """Leads to be created, or with `upsert` changed where their externalId is known.

    Each is judged by itself: one that is not valid fails alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    leads: Annotated[
        list[SkipValidation[LeadInput | LeadUpsert]], Field(min_length=1, max_length=MOST_ROWS)
    ]
    mode: Literal["create", "upsert"] = "create"


class RowError(Representation):
    """Why a row was not written: the members of a problem that are its own."""

    code: str
    detail: str
    errors: Annotated[dict[str, str] | None, Field(description="What is wrong with each field")] = (
        None
    )
    field: Annotated[
        Literal["email", "externalId"] | None,
        Field(description="Of a duplicate: the field that is taken"),
    ] = None
    lead_id: Annotated[UUID | None, Field(description="Of a duplicate: the lead that has it")] = (
        None
    )


class RowResult(Representation):
    """The result for a row: one member besides the status."""

    status: Annotated[int, Field(ge=200, le=599, description="As of a request of its own")]
    lead: Lead | None = None
    error: RowError | None = None
    operation: Annotated[
        Accepted | None, Field(description="Of a row that goes on: ask for it at /operations/{id}")
    ] = None


class BatchResults(Representation):
    """A result for every row of a batch, in their order."""

    model_config = with_example(
        results=[
            {"status": 201, "lead": EXAMPLE_LEAD},
            {
                "status": 400,
                "error": {
                    "code": "validation-failed",
                    "detail": "email: Email must be a valid email address",
                    "errors": {"email": "Email must be a valid email address"},
                },
            },
        ]
    )

    results: list[RowResult]


class LeadBatchHandlers:
    """Writes leads together: one that cannot be written does not affect the others."""

    def __init__(
        self,
        *,
        exchange: Exchange,
        keys: IdempotencyKeys,
        targets: LeadTargets,
        settings: HttpSettings,
    ) -> None:
        self._exchange = exchange
        self._keys = keys
        self._targets = targets
        self._timeout = settings.batch_timeout
        self._body_timeout = settings.body_timeout

    @Endpoint(
        "POST",
        "/leads/batch",
        id="writeLeads",
        tag=Tag.LEADS,
        summary="Create or upsert many leads",
        explanation=f"Up to {MOST_ROWS} rows in a body of 1 MiB. Every row has a result of its "
        "own, in the order of the rows: the status that it would have been answered with alone, "
        "and the lead, the error, or the operation that it has become. A row that is not valid "
        "fails alone.",
        parameters=(IDEMPOTENCY_KEY, PREFER),
        body=Body.json(LeadBatch, **EXAMPLE_BATCH),
        answers=(Answer.json(207, BatchResults, "The result for each row"),),
        problems=("key-reused", "unavailable"),
    )
    async def write(self, call: Call) -> web.StreamResponse:
        """Answer 207 with a result for every row, in their order."""
        body = await read_json_object(call.request, within=self._body_timeout, limit=BODY_LIMIT)
        batch = call.parse(LeadBatch, body)
        batch_id = event_id_of(call.request, user=call.user, operation=WRITE)
        # Each row alone would notice that it changed, but not that there were others.
        intent = partial(json.dumps, body, sort_keys=True)
        await self._keys.check_key(call.request, batch_id, intent)
        rows = await self._rows(call, batch, batch_id)
        events = await self._addressed([row for row in rows if isinstance(row, Event)])
        if len(events) > 1:
            call.ids = None  # of the last one
        outcomes = iter(await self._outcomes(call, events))
        results = [
            _result(row, next(outcomes)) if isinstance(row, Event) else _refused(row)
            for row in rows
        ]
        return json_response(orjson.dumps({"results": results}), status=207)

    async def _rows(self, call: Call, batch: LeadBatch, batch_id: UUID) -> list[Event | Problem]:
        rows: list[Event | Problem] = []
        for number, lead in enumerate(batch.leads):
            if number % STRETCH == 0:
                await asyncio.sleep(0)
            try:
                rows.append(self._event(call, lead, batch.mode, row_event_id(batch_id, number)))
            except Problem as problem:
                rows.append(problem)
        return rows

    def _event(self, call: Call, lead: object, mode: str, event_id: UUID) -> Event:
        lead_id = lead_id_of(event_id)
        return call.event(
            (_created if mode == "create" else _upserted)(call, lead, lead_id),
            id=event_id,
            subject=lead_id,
            reply_to=self._exchange.reply_address,
        )

    async def _addressed(self, events: list[Event]) -> list[Event]:
        """Give upserts the keys of the leads that they change, where those are other ones."""
        upserts = [event.data for event in events if isinstance(event.data, LeadUpserted)]
        moved = await self._targets.moved_keys({data.external_id for data in upserts})
        return [under_key(event, moved) for event in events]

    async def _outcomes(self, call: Call, events: list[Event]) -> list[Outcome | None]:
        if not events:
            return []
        if prefers_async(call.request):
            await self._exchange.publish(*events)
            return [None] * len(events)
        outcomes: dict[UUID, Outcome | None] = {}
        give_up = time.monotonic() + self._timeout.total_seconds()
        # Of rows with one e-mail address the first wins, in whichever partitions they are.
        for turn in in_turns((event, _email(event)) for event in events):
            within = timedelta(seconds=max(0, give_up - time.monotonic()))
            ends = await self._exchange.publish_and_await_all(turn, within=within)
            outcomes |= zip((event.id for event in turn), ends, strict=True)
        return [outcomes[event.id] for event in events]


def _email(event: Event) -> str:
    data = cast("LeadCreated | LeadUpserted", event.data)
    return data.lead.email


def _created(call: Call, value: object, lead_id: UUID) -> LeadCreated:
    lead = call.parse(LeadInput, value)
    return LeadCreated(
        lead_id=lead_id, source=LeadSource.MANUAL, created_by=call.user.id, lead=lead
    )


def _upserted(call: Call, value: object, lead_id: UUID) -> LeadUpserted:
    lead = call.parse(LeadUpsert, value)
    return LeadUpserted(
        lead_id=lead_id,
        source=LeadSource.MANUAL,
        created_by=call.user.id,
        external_id=cast("UUID", lead.external_id),  # the model requires it
        lead=lead,
    )


def _result(event: Event, outcome: Outcome | None) -> dict[str, Any]:
    """Return a `RowResult`, whose lead is the JSON of PostgreSQL."""
    if outcome is None:
        accepted = Accepted(id=event.id, status="pending")
        return {"status": 202, "operation": accepted.model_dump(by_alias=True)}
    if outcome.status not in STATUSES:
        return _refused(refusal(outcome))
    return {"status": STATUSES[outcome.status], "lead": orjson.Fragment(outcome.body)}


def _refused(problem: Problem) -> dict[str, Any]:
    """Return a `RowResult` with the members of a problem that are its own."""
    members = {name: value for name, value in _members(problem) if value is not None}
    # ASCII: what is quoted from the request may hold lone surrogates.
    error = orjson.Fragment(json.dumps(members, ensure_ascii=True))
    return {"status": problem.status, "error": error}


def _members(problem: Problem) -> Iterator[tuple[str, Any]]:
    yield "code", problem.code
    yield "detail", problem.detail
    yield "errors", problem.errors
    yield from problem.members.items()
