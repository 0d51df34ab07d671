"""`/leads/{id}/history` and `/leads/{id}/summaries`: what happened to a lead."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from aiohttp import web
from pydantic import Field

from services.api.handlers.leads import (
    EXAMPLE_LEAD,
    LEAD_KEY,
    SummaryText,
)
from services.api.handlers.operations import EXAMPLE_OPERATION_ID
from services.api.lead_lookup import NOT_FOUND, LeadLookup
from services.api.server.routing import Call
from services.api.storage.history import LeadHistory
from services.api.storage.pages import PageRow, Position
from services.api.storage.replica import Reads
from services.api.web.endpoint import Answer, Endpoint, Tag
from services.api.web.paging import NEXT_PAGE, PageQuery, list_response
from services.api.web.problems import Problem
from services.api.web.query import canonical_id
from services.api.web.responses import Representation, with_example


class LeadEvent(Representation):
    """Something that was asked of a lead, and what came of it."""

    model_config = with_example(
        id=EXAMPLE_OPERATION_ID,
        type="lead-created",
        source="api",
        time="2026-11-24T09:30:00.000Z",
        outcome="created",
        correlationId="4f0a8f6d2f4f-1c",
        data={"leadId": EXAMPLE_LEAD["id"], "source": "manual"},
    )

    id: UUID
    type: Annotated[str, Field(description="Such as `lead-created`")]
    source: Annotated[str, Field(description="The service that asked")]
    time: datetime
    outcome: Annotated[str, Field(description="Such as `created`")]
    correlation_id: Annotated[str, Field(description="The id of the request that led to it")]
    data: Annotated[dict[str, Any], Field(description="What was asked for; empty when erased")]


class LeadSummary(Representation):
    """A request for a summary: its state, and where the text came from."""

    model_config = with_example(
        id=EXAMPLE_OPERATION_ID,
        leadId=EXAMPLE_LEAD["id"],
        state="succeeded",
        summary=EXAMPLE_LEAD["summary"],
        nextAction=EXAMPLE_LEAD["nextAction"],
        leadVersion=1,
        provider="groq",
        model="openai/gpt-oss-20b",
        promptVersion="1",
        inputHash="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        reused=False,
        joinedId=None,
        tokensIn=412,
        tokensOut=61,
        attempts=1,
        latencyMs=840,
        reason=None,
        detail=None,
        requestedBy=EXAMPLE_LEAD["createdBy"],
        requestedAt="2026-11-24T09:31:11.500Z",
        startedAt="2026-11-24T09:31:11.505Z",
        finishedAt="2026-11-24T09:31:12.345Z",
        deadline="2026-11-24T09:31:41.500Z",
    )

    id: UUID
    lead_id: UUID
    state: Literal["queued", "running", "succeeded", "failed"]
    summary: SummaryText | None
    next_action: SummaryText | None
    lead_version: Annotated[int, Field(ge=1, description="The version that was summarised")]
    provider: str
    model: str
    prompt_version: str
    input_hash: Annotated[str, Field(description="SHA-256 of all that the text was made from")]
    reused: Annotated[bool, Field(description="Whether an earlier summary was still good")]
    joined_id: Annotated[UUID | None, Field(description="The request whose summary this waits for")]
    tokens_in: int | None
    tokens_out: int | None
    attempts: int
    latency_ms: int | None
    reason: Annotated[str | None, Field(description="When it failed")]
    detail: str | None
    requested_by: Annotated[str | None, Field(description="The id of the user who asked")]
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    deadline: datetime


class LeadHistoryHandlers:
    """Lists what belongs to one lead, newest first."""

    def __init__(
        self, *, lookup: LeadLookup, history: Reads[LeadHistory], timeout: timedelta
    ) -> None:
        self._lookup = lookup
        self._history = history
        self._seconds = timeout.total_seconds()

    @Endpoint(
        "GET",
        "/leads/{id}/summaries",
        id="listLeadSummaries",
        tag=Tag.SUMMARIES,
        summary="List a lead's summaries",
        explanation="Every request for one, newest first: how far it has come, and what the text "
        "was made from.",
        parameters=(LEAD_KEY,),
        query=PageQuery,
        answers=(Answer.json(200, list[LeadSummary], "A page of summaries", headers=(NEXT_PAGE,)),),
        problems=("lead-not-found", "lead-not-stored-yet", "unavailable"),
    )
    async def list_summaries(self, call: Call) -> web.StreamResponse:
        """Answer with a page of summaries."""
        query = call.parse_query(PageQuery)
        lead_id = await self._lookup.find_id(canonical_id(call.param, missing=NOT_FOUND))
        scope = f"summaries {lead_id}"
        after = query.position(scope=scope)
        return await self._page(
            call,
            lambda history: history.summaries(lead_id, limit=query.limit + 1, after=after),
            query=query,
            after=after,
            scope=scope,
        )

    @Endpoint(
        "GET",
        "/leads/{id}/history",
        id="listLeadEvents",
        tag=Tag.LEADS,
        summary="List a lead's events",
        explanation="What was asked of the lead and what came of it, newest first. Of a deleted "
        "lead, its `id` still finds the events, without what they said of the person.",
        parameters=(LEAD_KEY,),
        query=PageQuery,
        answers=(Answer.json(200, list[LeadEvent], "A page of events", headers=(NEXT_PAGE,)),),
        problems=("lead-not-found", "lead-not-stored-yet", "unavailable"),
    )
    async def list_events(self, call: Call) -> web.StreamResponse:
        """Answer with a page of events; by its id also those of a deleted lead."""
        query = call.parse_query(PageQuery)
        lead_id = await self._id_of_any(canonical_id(call.param, missing=NOT_FOUND))
        scope = f"history {lead_id}"
        after = query.position(scope=scope)
        return await self._page(
            call,
            lambda history: history.events(lead_id, limit=query.limit + 1, after=after),
            query=query,
            after=after,
            scope=scope,
        )

    async def _page(
        self,
        call: Call,
        read_rows: Callable[[LeadHistory], Awaitable[list[PageRow]]],
        *,
        query: PageQuery,
        after: Position | None,
        scope: str,
    ) -> web.StreamResponse:
        async with asyncio.timeout(self._seconds):
            read = await self._history.read(
                read_rows, at_least=None if after is None else after.seen
            )
            has_more = len(read.result) > query.limit
            seen = await read.place() if has_more else None
        return list_response(call.request, read.result, limit=query.limit, scope=scope, seen=seen)

    async def _id_of_any(self, key: str) -> UUID:
        try:
            return await self._lookup.find_id(key)
        except Problem as problem:
            if problem.code != NOT_FOUND or not await self._was_there(UUID(key)):
                raise
            return UUID(key)

    async def _was_there(self, lead_id: UUID) -> bool:
        async with asyncio.timeout(self._seconds):
            read = await self._history.read(lambda history: history.events(lead_id, limit=1))
        return bool(read.result)
