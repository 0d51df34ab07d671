"""`/admin`, for operators: what the streams are at, and a sync with the external source now."""

import asyncio
from dataclasses import asdict
from datetime import timedelta
from uuid import UUID

import orjson
from aiohttp import web

from services.api.exchange import Exchange
from services.api.handlers.operations import RETRY_AFTER, ended_otherwise
from services.api.server.routing import Call
from services.api.storage.requests import RequestNotes
from services.api.web.headers import prefers_async
from services.api.web.problems import Problem
from services.api.web.query import canonical_id
from services.api.web.responses import json_body, json_response
from shared.events.catalog import STREAMS
from shared.events.envelope import Event, now
from shared.events.lead_events import SyncRequested
from shared.events.outcome import OutcomeStatus
from shared.storage.sync_run_repository import SyncReport, SyncRun, SyncRunRepository, SyncState
from shared.streams.consuming.settlement import NOTICES as DEAD_LETTERS
from shared.streams.inspection import Inspector

# Long enough for a rate that means something.
SAMPLE = timedelta(seconds=1)
# A request that no syncer has taken by then is not carried out any more.
SYNC_EXPIRES = timedelta(seconds=90)


class StreamHandlers:
    """Looks at the streams."""

    def __init__(self, inspector: Inspector) -> None:
        self._inspector = inspector

    async def list(self, _call: Call) -> web.StreamResponse:
        """GET /admin/streams: takes a second, in which entries are counted."""
        states = await self._inspector.sampled((*STREAMS, DEAD_LETTERS), over=SAMPLE)
        return json_response(json_body(states))


class SyncHandlers:
    """Has the syncer fetch leads, and tells what became of that."""

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

    async def request(self, call: Call) -> web.StreamResponse:
        """POST /admin/sync: 200 with the run's report, or 202 when that takes longer."""
        event = Event(
            source="api",
            subject="sync",
            correlation_id=call.id,
            data=SyncRequested(requested_by="operator"),
            reply_to=self._exchange.reply_address,
            expires=now() + SYNC_EXPIRES,
        )
        if prefers_async(call.request):
            await self._exchange.publish(event)
            return _accepted(event.id)
        outcome = await self._exchange.publish_and_await(event, within=self._sync_timeout)
        if outcome is None:
            return _accepted(event.id)
        if outcome.status not in {OutcomeStatus.SYNCED, OutcomeStatus.FAILED}:
            raise ended_otherwise(outcome)
        return await self._find(event.id)

    async def read(self, call: Call) -> web.StreamResponse:
        """GET /admin/sync/{id}."""
        return await self._find(UUID(canonical_id(call.param, missing="sync-not-found")))

    async def _find(self, run_id: UUID) -> web.StreamResponse:
        async with asyncio.timeout(self._seconds):
            run = await self._runs.find(run_id)
            if run is None and await self._notes.was_accepted(run_id):
                run = SyncRun(run_id, SyncState.PENDING, SyncReport())
        if run is None:
            raise Problem("sync-not-found", "There is no sync with this id")
        return json_response(orjson.dumps({"id": run.id, "state": run.state, **asdict(run.report)}))


def _accepted(run_id: UUID) -> web.StreamResponse:
    return json_response(
        orjson.dumps({"id": str(run_id), "status": SyncState.PENDING}),
        status=202,
        headers={
            "Location": f"/admin/sync/{run_id}",
            "Retry-After": f"{RETRY_AFTER.total_seconds():.0f}",
        },
    )
