"""What the API answers with, as models for the document.

Nothing is made of them: leads leave as the bytes that PostgreSQL built. The API's tests hold
every answer against them.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from shared.domain.lead import LeadStatus
from shared.domain.summary import MAX_LENGTH, FailureReason
from shared.events.lead_fields import DateOfBirth, Email, Name, Phone, Picture, Place

SummaryText = Annotated[str, Field(min_length=1, max_length=MAX_LENGTH)]

EXAMPLE_LEAD: dict[str, Any] = {
    "id": "0192f4c4-3b5e-7c3a-9d58-0a4a3a1f6b1e",
    "externalId": "7e2d1e6c-2f5f-4e0b-9c55-8f2f3a0f6b1e",
    "firstName": "Ada",
    "lastName": "Lovelace",
    "email": "ada@example.com",
    "phone": "020 7946 0958",
    "cell": None,
    "dob": "1815-12-10",
    "city": "London",
    "state": None,
    "country": "United Kingdom",
    "picture": "https://example.com/ada.jpg",
    "summary": "Ada Lovelace is a new lead from London.",
    "nextAction": "Call to introduce the product.",
    "summaryStale": False,
    "status": "new",
    "source": "manual",
    "createdBy": "5f0c2b1e-5c1e-4f0a-8f6d-2f4f3b0f7a11",
    "createdAt": "2026-11-24T09:30:00.000Z",
    "updatedAt": "2026-11-24T09:31:12.345Z",
    "version": 2,
}
# What a client sends to have it created.
EXAMPLE_INPUT = {
    name: EXAMPLE_LEAD[name]
    for name in (
        *("externalId", "firstName", "lastName", "email", "phone", "dob", "city", "country"),
        "picture",
    )
}
EXAMPLE_OPERATION_ID = "0192f4c4-7a10-7d0e-8a3c-5b2f90c1d4e7"


def with_example(**example: Any) -> ConfigDict:
    """Return the configuration of a representation that shows an example."""
    return ConfigDict(json_schema_extra={"examples": [example]})


class Representation(BaseModel):
    """camelCase. Clients must expect members that are not here: they may come with time."""

    model_config = ConfigDict(alias_generator=to_camel)


class Lead(Representation):
    """A lead. Every member is always there; what is not known is null."""

    model_config = with_example(**EXAMPLE_LEAD)

    id: UUID
    external_id: UUID | None
    first_name: Name
    last_name: Name
    email: Email
    phone: Phone | None
    cell: Phone | None
    dob: DateOfBirth | None
    city: Place | None
    state: Place | None
    country: Place | None
    picture: Picture | None
    summary: SummaryText | None
    next_action: SummaryText | None
    summary_stale: Annotated[
        bool, Field(description="Whether the lead has changed since its summary was written")
    ]
    status: LeadStatus
    source: Annotated[str, Field(description="`manual`, or the source that the lead came from")]
    created_by: Annotated[str | None, Field(description="The id of the user who created it")]
    created_at: datetime
    updated_at: datetime
    version: Annotated[int, Field(ge=1, description="Grows by one with every change")]


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
    correlation_id: Annotated[str, Field(description="The id of the request behind it")]
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


class Accepted(Representation):
    """A request that was accepted and goes on."""

    model_config = with_example(id=EXAMPLE_OPERATION_ID, status="pending")

    id: UUID
    status: Literal["pending"]


class OperationError(Representation):
    """Why an operation failed. Some codes come with members of their own."""

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
    """How many rows of a file were seen to, and what became of them."""

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
    """What became of a request that was answered 202."""

    model_config = with_example(
        id=EXAMPLE_OPERATION_ID, status="succeeded", leadId=EXAMPLE_LEAD["id"]
    )

    id: UUID
    status: Literal["pending", "succeeded", "failed"]
    lead_id: UUID | None = None
    error: Annotated[OperationError | None, Field(description="When it failed")] = None
    progress: Annotated[ImportProgress | None, Field(description="Of an import")] = None
    dry_run: Annotated[bool | None, Field(description="Of an import that wrote nothing")] = None
    error_file: Annotated[
        str | None, Field(description="Where the rows are that an import could not write")
    ] = None


class Alive(Representation):
    """The process lives."""

    model_config = with_example(status="ok")

    status: Literal["ok"]


State = Literal["ok", "unavailable"]


class Readiness(Representation):
    """Whether the API can do its work, and the state of each thing that it needs."""

    model_config = with_example(
        status="ok", checks={"postgres": "ok", "redis": "ok", "replies": "ok", "auth": "ok"}
    )

    status: State
    checks: dict[str, State]


class ProblemDetails(Representation):
    """A refusal or failure (RFC 9457). Clients decide by `code`, which never changes."""

    type: Annotated[str, Field(description="`urn:leads:problem:{code}`")]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: Annotated[str, Field(description="What is wrong with this request in particular")]
    instance: Annotated[str, Field(description="The path of the request")]
    code: str
    error: Annotated[str, Field(description="The same as `detail`")]
    errors: Annotated[
        dict[str, str], Field(description="What is wrong with each field or parameter")
    ] = {}


class Conflict(Representation):
    """What a `duplicate-lead` says besides."""

    field: Literal["email", "externalId"]
    lead_id: Annotated[UUID | None, Field(description="The lead that has it")]


class VersionMismatch(Representation):
    """What a `version-mismatch` says besides."""

    version: Annotated[int, Field(ge=1, description="The version that the lead is in")]


class SummaryFailure(Representation):
    """What the failure of a summary says besides."""

    # A summarizer that is newer than this process may have others.
    reason: Annotated[str, Field(examples=[reason.value for reason in FailureReason])]


# The members that problems with these codes have besides those of all problems.
PROBLEM_MEMBERS: Mapping[str, type[Representation]] = {
    "duplicate-lead": Conflict,
    "version-mismatch": VersionMismatch,
    "rate-limited": SummaryFailure,
    "invalid-model-output": SummaryFailure,
    "summaries-unavailable": SummaryFailure,
}
