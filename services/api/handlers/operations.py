"""`/operations`: what became of a request that was answered 202."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
from aiohttp import web

from services.api.ids import canonical_id
from services.api.problems import Problem
from services.api.responses import json_response
from services.api.routing import Call
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.operation_repository import Operation, OperationRepository, OperationStatus
from shared.streams.accepted import AcceptedEvents

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
        self, operations: OperationRepository, accepted: AcceptedEvents, *, timeout: timedelta
    ) -> None:
        self._operations = operations
        self._accepted = accepted
        self._seconds = timeout.total_seconds()

    async def read(self, call: Call) -> web.StreamResponse:
        """GET /operations/{id}."""
        operation_id = UUID(canonical_id(call.param, missing="operation-not-found"))
        async with asyncio.timeout(self._seconds):
            operation = await self._find(operation_id)
        if operation is None:
            raise Problem("operation-not-found", "There is no operation with this id")
        return json_response(orjson.dumps({"id": str(operation_id), **_body(operation)}))

    async def _find(self, operation_id: UUID) -> Operation | None:
        operation = await self._operations.find(operation_id)
        if operation is None and await self._accepted.has(operation_id):
            return PENDING
        return operation


def _body(operation: Operation) -> dict[str, Any]:
    body: dict[str, Any] = {"status": operation.status}
    if operation.lead_id is not None:
        body["leadId"] = operation.lead_id
    if operation.status is OperationStatus.FAILED:
        body["error"] = {"code": operation.code, **(operation.details or {})}
    return body
