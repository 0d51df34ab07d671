"""`/operations`: what became of a request that was answered 202."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
from aiohttp import hdrs, web

from services.api.server.routing import Call
from services.api.storage.operations import Operation, OperationRepository, OperationStatus
from services.api.storage.requests import RequestNotes
from services.api.web.problems import Problem
from services.api.web.query import canonical_id
from services.api.web.responses import json_response, lead_response
from services.api.web.streaming import streamed
from shared.events.outcome import Outcome, OutcomeStatus
from shared.streams.imports import ImportJobs

# What clients are told of a write: the lead as it is stored, or why there is none.


def stored_response(outcome: Outcome) -> web.StreamResponse:
    """Answer with the lead, 201 when it is new; raises `Problem` when it was not written."""
    if outcome.status is OutcomeStatus.UPDATED:
        return lead_response(outcome.body, version=orjson.loads(outcome.body)["version"])
    if outcome.status is not OutcomeStatus.CREATED:
        raise refusal(outcome)
    lead = orjson.loads(outcome.body)
    response = lead_response(outcome.body, version=lead["version"], status=201)
    response.headers[hdrs.LOCATION] = f"/leads/{lead['id']}"
    return response


def refusal(outcome: Outcome) -> Problem:
    """Return the problem of a write that was not carried out."""
    match outcome.status:
        case OutcomeStatus.DUPLICATE:
            conflict = orjson.loads(outcome.body)
            detail = f"The {conflict['field']} is another lead's"
            return Problem("duplicate-lead", detail, members=conflict)
        case OutcomeStatus.VERSION_MISMATCH:
            return version_mismatch(orjson.loads(outcome.body)["version"])
        case _:
            return ended_otherwise(outcome)


def version_mismatch(version: int) -> Problem:
    """Return the refusal of a write to a lead that is in this version, not the one expected."""
    return Problem(
        "version-mismatch",
        f"The lead is in version {version}",
        members={"version": version},
        headers={hdrs.ETAG: f'"{version}"'},
    )


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
        notes: RequestNotes,
        imports: ImportJobs,
        *,
        timeout: timedelta,
    ) -> None:
        self._operations = operations
        self._notes = notes
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
        operation = await self._operations.find_operation(operation_id)
        if operation is not None:
            return operation
        progress = await self._imports.progress(operation_id)
        if progress is not None:
            return replace(PENDING, progress=progress.counts)
        return PENDING if await self._notes.was_accepted(operation_id) else None


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
