"""`/operations`: the outcome of a request that was answered 202."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from aiohttp import web
from pydantic import ConfigDict, Field

from services.api.handlers.leads import EXAMPLE_LEAD
from services.api.server.routing import Call
from services.api.storage import operations as storage
from services.api.storage.operations import OperationRepository, OperationStatus
from services.api.storage.requests import RequestNotes
from services.api.web.endpoint import Answer, Endpoint, Header, Link, Parameter, Tag
from services.api.web.problems import Problem
from services.api.web.query import canonical_id
from services.api.web.responses import NO_STORE, Representation, json_response, with_example
from services.api.web.streaming import streamed
from shared.events.outcome import Outcome, OutcomeStatus
from shared.streams.imports import ImportJobs

NDJSON = "application/x-ndjson"
NOT_FOUND = "operation-not-found"
EXAMPLE_OPERATION_ID = "0192f4c4-7a10-7d0e-8a3c-5b2f90c1d4e7"
RETRY_LATER = timedelta(seconds=2)
PENDING = storage.Operation(status=OperationStatus.PENDING)


class Accepted(Representation):
    """A request that was accepted and goes on."""

    model_config = with_example(id=EXAMPLE_OPERATION_ID, status="pending")

    id: UUID
    status: Literal["pending"]


RETRY_AFTER = Header(
    name="Retry-After", description="Seconds after which to ask again", example="2", type=int
)
ACCEPTED = Answer.json(
    202,
    Accepted,
    "Accepted, and not done yet: the outcome will be at `Location`",
    headers=(
        Header(
            name="Location",
            description="Where to read its status",
            example=f"/operations/{EXAMPLE_OPERATION_ID}",
        ),
        RETRY_AFTER,
    ),
    links={"outcome": Link(operation_id="readOperation", parameters={"id": "$response.body#/id"})},
)
OPERATION_ID = Parameter(
    name="id",
    place="path",
    description="The id from a 202 answer",
    type=UUID,
    example=EXAMPLE_OPERATION_ID,
)


def accepted_response(request_id: UUID, *, location: str = "/operations") -> web.StreamResponse:
    """Answer 202: the event is in its stream, and its outcome will be at this location."""
    return json_response(
        Accepted(id=request_id, status="pending").to_body(),
        status=202,
        headers={
            "Location": f"{location}/{request_id}",
            "Retry-After": f"{RETRY_LATER.total_seconds():.0f}",
        },
    )


def problem_of(outcome: Outcome) -> Problem:
    """Return the problem of an outcome that any kind of request may have."""
    match outcome.status:
        case OutcomeStatus.KEY_REUSED:
            return Problem("key-reused", "The Idempotency-Key belongs to another request")
        case OutcomeStatus.NOT_FOUND:
            return Problem("lead-not-found", "The lead does not exist any more")
        case _:
            return Problem(
                "operation-failed", "The request was parked for an operator to look into"
            )


def _without_extras(schema: dict[str, Any]) -> None:
    del schema["additionalProperties"]


class OperationError(Representation):
    """Why an operation failed. Some codes come with members of their own."""

    # Clients expect unknown members of every answer: the document does not say so of this alone.
    model_config = ConfigDict(extra="allow", json_schema_extra=_without_extras)

    code: str
    detail: str | None = None
    field: Annotated[str | None, Field(description="Of a duplicate: the field that is taken")] = (
        None
    )
    lead_id: Annotated[UUID | None, Field(description="Of a duplicate: the lead that has it")] = (
        None
    )
    row: Annotated[int | None, Field(description="Of an import: the row that ended it")] = None


class ImportProgress(Representation):
    """How many rows of a file were read, and their results."""

    model_config = with_example(
        rows=12000, created=10800, updated=0, duplicate=600, invalid=600, refused=0
    )

    rows: int
    created: int
    updated: int
    duplicate: Annotated[int, Field(description="Another lead has the e-mail or externalId")]
    invalid: int
    refused: Annotated[
        int, Field(description="Of leads that were deleted, or that could not be stored")
    ]


class Operation(Representation):
    """The status of an accepted request."""

    model_config = with_example(
        id=EXAMPLE_OPERATION_ID, status="succeeded", leadId=EXAMPLE_LEAD["id"]
    )

    id: UUID
    status: Literal["pending", "succeeded", "failed"]
    lead_id: UUID | None = None
    dry_run: Annotated[bool | None, Field(description="Of an import that wrote nothing")] = None
    progress: Annotated[ImportProgress | None, Field(description="Of an import")] = None
    ignored_columns: Annotated[
        list[str] | None,
        Field(description="Of an import: columns with values that cannot be imported"),
    ] = None
    error_file: Annotated[
        str | None, Field(description="Where the rows are that an import could not write")
    ] = None
    error: Annotated[OperationError | None, Field(description="When it failed")] = None

    @classmethod
    def of_stored(cls, operation_id: UUID, stored: storage.Operation) -> Self:
        """Return the operation with this id, with the members that it has."""
        members: dict[str, Any] = {}
        if stored.lead_id is not None:
            members["lead_id"] = stored.lead_id
        if stored.is_dry_run:
            members["dry_run"] = True
        if stored.progress is not None:
            members["progress"] = stored.progress
            if any(stored.progress[kind] for kind in ("duplicate", "invalid", "refused")):
                members["error_file"] = f"/operations/{operation_id}/errors"
        if stored.ignored_columns:
            members["ignored_columns"] = list(stored.ignored_columns)
        if stored.status is OperationStatus.FAILED:
            members["error"] = {"code": stored.code, **(stored.details or {})}
        return cls(id=operation_id, status=stored.status.value, **members)


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

    @Endpoint(
        "GET",
        "/operations/{id}",
        id="readOperation",
        tag=Tag.OPERATIONS,
        summary="Read the status of an accepted request",
        explanation="Of an import, `progress` counts the rows so far by their result. It is "
        "exact at every moment: `rows` is the sum of the others.",
        parameters=(OPERATION_ID,),
        answers=(Answer.json(200, Operation, "How far it has come"),),
        problems=("operation-not-found", "unavailable"),
    )
    async def read(self, call: Call) -> web.StreamResponse:
        """Answer with the operation's state."""
        operation_id = UUID(canonical_id(call.param, missing=NOT_FOUND))
        stored = await self._find_operation(operation_id)
        operation = Operation.of_stored(operation_id, stored)
        return json_response(operation.to_body(exclude_unset=True))

    @Endpoint(
        "GET",
        "/operations/{id}/errors",
        id="listImportErrors",
        tag=Tag.OPERATIONS,
        summary="List the rows that an import could not write",
        explanation='A line for each, in their order: `{"row": 17, "errors": {"email": "Email '
        'must be a valid email address"}}`. Of a duplicate also the `existingLeadId`. What the '
        "rows say is not repeated. The file grows while the import goes on, and is kept for seven "
        "days.",
        parameters=(OPERATION_ID,),
        answers=(
            Answer(status=200, description="The rows and their errors", content={NDJSON: str}),
        ),
        problems=("operation-not-found", "errors-not-found", "unavailable"),
    )
    async def errors(self, call: Call) -> web.StreamResponse:
        """Answer with a line for each row that an import could not write."""
        operation_id = UUID(canonical_id(call.param, missing=NOT_FOUND))
        response = await streamed(
            self._imports.errors(operation_id),
            content_type=NDJSON,
            headers=NO_STORE,
        )
        if response.is_empty:
            await self._find_operation(operation_id)
            raise Problem("errors-not-found", "There were no errors, or they are not kept any more")
        return response

    async def _find_operation(self, operation_id: UUID) -> storage.Operation:
        async with asyncio.timeout(self._seconds):
            operation = await self._stored_or_pending(operation_id)
        if operation is None:
            raise Problem(NOT_FOUND, "There is no operation with this id")
        return operation

    async def _stored_or_pending(self, operation_id: UUID) -> storage.Operation | None:
        operation = await self._operations.find_operation(operation_id)
        if operation is not None:
            return operation
        progress = await self._imports.progress(operation_id)
        if progress is not None:
            return replace(PENDING, progress=progress.counts, ignored_columns=progress.passed_over)
        return PENDING if await self._notes.was_accepted(operation_id) else None
