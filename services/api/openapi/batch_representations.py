"""What a batch of leads is answered with, as models for the document."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from services.api.openapi.representations import (
    EXAMPLE_INPUT,
    EXAMPLE_LEAD,
    Accepted,
    Lead,
    Representation,
    with_example,
)

EXAMPLE_BATCH: dict[str, Any] = {
    "mode": "upsert",
    "leads": [EXAMPLE_INPUT, {**EXAMPLE_INPUT, "email": "nobody"}],
}


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
    """What became of a row: one member besides the status."""

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
