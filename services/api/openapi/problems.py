"""Problems in the OpenAPI document: which ones an endpoint answers with, and what is in them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from services.api.openapi.json_schemas import Json, JsonSchemas
from services.api.web.endpoint import Access, Body, Endpoint, Header
from services.api.web.headers import ETAG
from services.api.web.problems import PROBLEMS, TYPE_PREFIX
from services.api.web.responses import Representation
from shared.domain.summary import FailureReason

PROBLEM_JSON = "application/problem+json"

# The problems that come with what an endpoint is, besides its own.
OF_EVERY = ("malformed-request", "headers-too-large", "internal-error")
OF_A_LIMIT = ("rate-limited",)
OF_A_DEADLINE = ("timeout",)
# An address may have unknown parameters.
OF_AN_ADDRESS = ("validation-failed",)
OF_A_BODY = (
    *("validation-failed", "body-timeout", "body-too-large"),
    *("unsupported-media-type", "expectation-failed"),
)
OF_JSON = ("malformed-json",)
OF_ACCESS = {
    Access.PUBLIC: (),
    Access.USER: ("unauthenticated", "invalid-token", "auth-unavailable"),
    Access.OPERATOR: ("unauthenticated",),
}

RETRY_AFTER = Header(
    name="Retry-After",
    description="Seconds after which to ask again",
    example="2",
    type=int,
    is_required=False,
)
CHALLENGE = Header(
    name="WWW-Authenticate",
    description="How to authenticate",
    example='Bearer error="invalid_token", error_description="The token has expired"',
    is_required=False,
)
# Headers of problems with these statuses, besides those of every answer.
HEADERS: Mapping[int, Header] = {401: CHALLENGE, 412: ETAG, 429: RETRY_AFTER, 503: RETRY_AFTER}

# Headers of problems with these codes.
HEADERS_OF: Mapping[str, tuple[Header, ...]] = {
    "lead-not-stored-yet": (
        replace(RETRY_AFTER, is_required=False),
        Header(
            name="Location",
            description="Of a lead that is accepted and not stored: where to read how far it is",
            example="/operations/0192f4c4-7a10-7d0e-8a3c-5b2f90c1d4e7",
            is_required=False,
        ),
    )
}


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
    ] = {}  # noqa: RUF012 (pydantic copies it)


class Conflict(Representation):
    """What a `duplicate-lead` says besides."""

    field: Literal["email", "externalId"]
    lead_id: Annotated[UUID | None, Field(description="The lead that has it")]


class VersionMismatch(Representation):
    """What a `version-mismatch` says besides."""

    version: Annotated[int, Field(ge=1, description="The version that the lead is in")]


class NotStoredYet(Representation):
    """What a `lead-not-stored-yet` says besides."""

    operation: Annotated[str, Field(description="Where to read how far its creation has come")]


class SummaryFailure(Representation):
    """What the failure of a summary says besides."""

    # A summarizer that is newer than this process may have others.
    reason: Annotated[str, Field(examples=[reason.value for reason in FailureReason])]


# The members that problems with these codes have besides those of all problems.
MEMBERS: Mapping[str, type[Representation]] = {
    "duplicate-lead": Conflict,
    "version-mismatch": VersionMismatch,
    "lead-not-stored-yet": NotStoredYet,
    "rate-limited": SummaryFailure,
    "invalid-model-output": SummaryFailure,
    "summaries-unavailable": SummaryFailure,
}


def problem_codes(endpoint: Endpoint) -> set[str]:
    """Return the codes of all problems that an endpoint may answer with."""
    return {
        *OF_EVERY,
        *OF_ACCESS[endpoint.access],
        *(() if endpoint.is_lenient else OF_AN_ADDRESS),
        *(OF_A_BODY if endpoint.body else ()),
        *(OF_JSON if endpoint.body and _is_json(endpoint.body) else ()),
        *(OF_A_LIMIT if endpoint.is_limited else ()),
        *(() if endpoint.is_bounded else OF_A_DEADLINE),
        *endpoint.problems,
    }


def problem_content(status: int, codes: Sequence[str], schemas: JsonSchemas) -> Json:
    """Return the body of answers with one of these codes, all of them of one status."""
    # Answers outside of all operations are of this model.
    schemas.of(ProblemDetails, mode="serialization")
    schema = schemas.inline(ProblemDetails, mode="serialization")
    members: Json = schema["properties"]
    members |= {
        "status": {"type": "integer", "format": "int64", "const": status},
        "code": {"type": "string", "enum": list(codes)},
    }
    errors = members["errors"]
    del errors["default"]
    members["errors"] = schemas.keep("FieldErrors", errors)
    for code in codes:
        if code in MEMBERS:
            members |= schemas.inline(MEMBERS[code], mode="serialization")["properties"]
    # Whole and with a name: generators of clients name what has none by numbers.
    name = "".join(code.title().replace("-", "") for code in codes) + "Problem"
    schema["description"] = " / ".join(PROBLEMS[code][1] for code in codes)
    schema = schemas.keep(name, schema | {"title": name})
    examples = {code: {"value": _example(code)} for code in codes}
    return {PROBLEM_JSON: {"schema": schema, "examples": examples}}


def _is_json(body: Body) -> bool:
    return any(media_type.endswith(("/json", "+json")) for media_type in body.content)


def _example(code: str) -> Json:
    status, title = PROBLEMS[code]
    example: Json = {
        "type": f"{TYPE_PREFIX}{code}",
        "title": title,
        "status": status,
        "detail": title,
        "instance": "/leads",
        "code": code,
        "error": title,
    }
    if code == "validation-failed":
        example["errors"] = {"email": "Email must be a valid email address"}
    return example
