"""`/operations`: what became of a request that was answered 202."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
from aiohttp import web

from services.api.ids import canonical_id
from services.api.problems import Problem
from services.api.responses import json_response
from services.api.routing import Call
from services.api.streaming import streamed
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.operation_repository import Operation, OperationRepository, OperationStatus
from shared.streams.accepted import AcceptedEvents
from shared.streams.import_jobs import ImportJobs

RETRY_AFTER = timedelta(seconds=2)
PENDING = Operation(status=OperationStatus.PENDING)


def accepted_response(event_id: UUID) -> web.StreamResponse:
    """Answer 202: the event is in the stream, and this is where to ask after it."""
    return json_response(
        orjson.dumps({"id": str(event_id), "status": OperationStatus.PENDING}),
        status=202,
        headers={
            "Location": f"/operations/{event_id}",
            "Retry-After": f"{RETRY_AFTER.total_seconds():.0f}",
        },
    )


def ended_otherwise(outcome: Outcome) -> Problem:
    """Return the problem of an outcome that is none of the operation's own."""
    match outcome.status:
        case OutcomeStatus.KEY_REUSED:
            return Problem("key-reused", "The Idempotency-Key belongs to another request")
        case OutcomeStatus.NOT_FOUND:
            return Problem("lead-not-found", "The lead does not exist any more")
        case _:
            return Problem(
                "operation-failed", "The request was parked for an operator to look into"
            )


class OperationHandlers:
    """Reads operations."""

    def __init__(
        self,
        operations: OperationRepository,
        accepted: AcceptedEvents,
        imports: ImportJobs,
        *,
        timeout: timedelta,
    ) -> None:
        self._operations = operations
        self._accepted = accepted
        self._imports = imports
        self._seconds = timeout.total_seconds()

    async def read(self, call: Call) -> web.StreamResponse:
        """GET /operations/{id}."""
        operation_id = UUID(canonical_id(call.param, missing="operation-not-found"))
        operation = await self._existing(operation_id)
        return json_response(orjson.dumps(_body(operation_id, operation)))

    async def errors(self, call: Call) -> web.StreamResponse:
        """GET /operations/{id}/errors: a line for each row that an import could not write."""
        operation_id = UUID(canonical_id(call.param, missing="operation-not-found"))
        response = await streamed(
            self._imports.errors(operation_id),
            content_type="application/x-ndjson",
            headers={"Cache-Control": "no-store"},
        )
        if response.is_empty:
            await self._existing(operation_id)
            raise Problem("errors-not-found", "There were no errors, or they are not kept any more")
        return response

    async def _existing(self, operation_id: UUID) -> Operation:
        async with asyncio.timeout(self._seconds):
            operation = await self._find(operation_id)
        if operation is None:
            raise Problem("operation-not-found", "There is no operation with this id")
        return operation

    async def _find(self, operation_id: UUID) -> Operation | None:
        operation = await self._operations.find(operation_id)
        if operation is not None:
            return operation
        progress = await self._imports.progress(operation_id)
        if progress is not None:
            return replace(PENDING, progress=progress.counts)
        return PENDING if await self._accepted.has(operation_id) else None


def _body(operation_id: UUID, operation: Operation) -> dict[str, Any]:
    body: dict[str, Any] = {"id": str(operation_id), "status": operation.status}
    if operation.lead_id is not None:
        body["leadId"] = operation.lead_id
    if operation.is_dry_run:
        body["dryRun"] = True
    if operation.progress is not None:
        body["progress"] = operation.progress
        if any(operation.progress[kind] for kind in ("duplicate", "invalid", "refused")):
            body["errorFile"] = f"/operations/{operation_id}/errors"
    if operation.status is OperationStatus.FAILED:
        body["error"] = {"code": operation.code, **(operation.details or {})}
    return body
