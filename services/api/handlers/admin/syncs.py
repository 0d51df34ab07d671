"""`/admin/sync`, for operators: have leads fetched from the external source, and see what came."""

import asyncio
import time
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated, Self, cast
from uuid import UUID

from aiohttp import web
from pydantic import Field

from services.api.exchange import Exchange
from services.api.handlers.operations import (
    EXAMPLE_OPERATION_ID,
    RETRY_AFTER,
    Accepted,
    accepted_response,
    problem_of,
)
from services.api.server.routing import Call
from services.api.storage.pages import PageRow, Position
from services.api.storage.requests import RequestNotes
from services.api.web.endpoint import Access, Answer, Endpoint, Header, Link, Parameter, Tag
from services.api.web.headers import PREFER, prefers_async
from services.api.web.paging import NEXT_PAGE, PageQuery, list_response
from services.api.web.problems import Problem
from services.api.web.query import canonical_id
from services.api.web.responses import Representation, json_response, with_example
from shared.events.data import SyncRequested
from shared.events.envelope import now
from shared.events.outcome import OutcomeStatus
from shared.storage.sync_runs import SyncRun, SyncRunRepository, SyncState

# A request that no syncer has taken by then is not carried out any more.
SYNC_EXPIRES = timedelta(seconds=90)

# What a cursor of the list belongs to.
SCOPE = "syncs"

SYNC_ID = Parameter(
    name="id", place="path", description="The sync's id", type=UUID, example=EXAMPLE_OPERATION_ID
)
SYNC_LOCATION = Header(
    name="Location",
    description="Where to read its status",
    example=f"/admin/sync/{EXAMPLE_OPERATION_ID}",
)


class Sync(Representation):
    """A sync with the external source, and the results for its leads."""

    model_config = with_example(
        id=EXAMPLE_OPERATION_ID,
        state="succeeded",
        requestedBy="schedule",
        startedAt="2026-11-24T09:30:00.012Z",
        finishedAt="2026-11-24T09:30:00.840Z",
        fetched=10,
        created=9,
        duplicate=1,
        invalid=0,
        unknown=0,
        error=None,
    )

    id: UUID
    state: SyncState
    requested_by: Annotated[
        str | None, Field(description="`schedule` or `operator`; null while it is pending")
    ]
    started_at: Annotated[datetime | None, Field(description="Null while it is pending")]
    finished_at: Annotated[
        datetime | None,
        Field(description="When the leads were fetched and handed on; their results come after"),
    ]
    fetched: int
    created: int
    duplicate: int
    invalid: int
    unknown: Annotated[int, Field(description="Those whose outcome did not come in time")]
    error: Annotated[str | None, Field(description="When it failed")]

    @classmethod
    def of_run(cls, run: SyncRun) -> Self:
        """Return a run with its report."""
        return cls(**{**asdict(run), **asdict(run.report)})


class SyncHandlers:
    """Has the syncer fetch leads, and reads the reports of its runs."""

    def __init__(
        self,
        exchange: Exchange,
        runs: SyncRunRepository,
        notes: RequestNotes,
        *,
        sync_timeout: timedelta,
        timeout: timedelta,
    ) -> None:
        self._exchange = exchange
        self._runs = runs
        self._notes = notes
        self._sync_timeout = sync_timeout
        self._seconds = timeout.total_seconds()

    @Endpoint(
        "GET",
        "/admin/sync",
        id="listSyncs",
        tag=Tag.ADMINISTRATION,
        summary="List the syncs, newest first",
        explanation="Those that have begun. Results are counted when they are read, so that a "
        "sync's may still grow.",
        access=Access.OPERATOR,
        query=PageQuery,
        answers=(Answer.json(200, list[Sync], "A page", headers=(NEXT_PAGE,)),),
        problems=("unavailable",),
    )
    async def list_runs(self, call: Call) -> web.StreamResponse:
        """Answer with a page of runs."""
        query = call.parse_query(PageQuery)
        after = query.position(scope=SCOPE)
        before = None if after is None else (cast("datetime", after.key), after.id)
        async with asyncio.timeout(self._seconds):
            runs = await self._runs.latest(limit=query.limit + 1, before=before)
        return list_response(
            call.request, [_row(run) for run in runs], limit=query.limit, scope=SCOPE
        )

    @Endpoint(
        "POST",
        "/admin/sync",
        id="sync",
        tag=Tag.ADMINISTRATION,
        summary="Fetch leads from the external source now",
        access=Access.OPERATOR,
        parameters=(PREFER,),
        answers=(
            Answer.json(200, Sync, "The sync is over, though it may have failed"),
            Answer.json(
                202,
                Accepted,
                "Accepted, and not done yet",
                headers=(SYNC_LOCATION, RETRY_AFTER),
                links={
                    "outcome": Link(
                        operation_id="readSync", parameters={"id": "$response.body#/id"}
                    )
                },
            ),
        ),
        problems=("operation-failed", "unavailable"),
    )
    async def request(self, call: Call) -> web.StreamResponse:
        """Answer 200 with the run's report, or 202 when that takes longer."""
        event = call.event(
            SyncRequested(requested_by="operator"),
            subject="sync",
            reply_to=self._exchange.reply_address,
            expires=now() + SYNC_EXPIRES,
        )
        if prefers_async(call.request):
            await self._exchange.publish(event)
            return accepted_response(event.id, location="/admin/sync")
        give_up = time.monotonic() + self._sync_timeout.total_seconds()
        outcome = await self._exchange.publish_and_await(event, within=self._sync_timeout)
        if outcome is None:
            return accepted_response(event.id, location="/admin/sync")
        if outcome.status not in {OutcomeStatus.SYNCED, OutcomeStatus.FAILED}:
            raise problem_of(outcome)
        # Its leads are published. Most are written by now, by another group of workers.
        left = timedelta(seconds=max(0.0, give_up - time.monotonic()))
        run = await self._runs.await_end(event.id, within=left)
        if run is None or run.state is SyncState.RUNNING:
            return accepted_response(event.id, location="/admin/sync")
        return _answer(run)

    @Endpoint(
        "GET",
        "/admin/sync/{id}",
        id="readSync",
        tag=Tag.ADMINISTRATION,
        summary="Read the status of a sync",
        access=Access.OPERATOR,
        parameters=(SYNC_ID,),
        answers=(Answer.json(200, Sync, "How far it has come"),),
        problems=("sync-not-found", "unavailable"),
    )
    async def read(self, call: Call) -> web.StreamResponse:
        """Answer with the report of a run as it is now."""
        return await self._report(UUID(canonical_id(call.param, missing="sync-not-found")))

    async def _report(self, run_id: UUID) -> web.StreamResponse:
        async with asyncio.timeout(self._seconds):
            run = await self._runs.find_run(run_id)
            if run is None and await self._notes.was_accepted(run_id):
                run = SyncRun(id=run_id)
        if run is None:
            raise Problem("sync-not-found", "There is no sync with this id")
        return _answer(run)


def _answer(run: SyncRun) -> web.StreamResponse:
    return json_response(Sync.of_run(run).to_body())


def _row(run: SyncRun) -> PageRow:
    assert run.started_at is not None  # noqa: S101 (else it has no row)
    return PageRow(Position(run.started_at, run.id), Sync.of_run(run).to_body())
