"""The parts of the document that its operations refer to: schemas, and answers of problems."""

from collections.abc import Mapping, Sequence

from services.api.json_schemas import Json, JsonSchemas
from services.api.openapi.description import Header
from services.api.openapi.recurring import (
    CHALLENGE,
    ETAG,
    LIMIT_HEADERS,
    MAYBE_RETRY_AFTER,
    REQUEST_ID,
)
from services.api.openapi.representations import PROBLEM_MEMBERS, ProblemDetails
from services.api.problems import PROBLEMS, TYPE_PREFIX

PROBLEM_JSON = "application/problem+json"

# Headers of refusals with these statuses, besides the request's id.
PROBLEM_HEADERS: Mapping[int, Header] = {
    401: CHALLENGE,
    412: ETAG,
    429: MAYBE_RETRY_AFTER,
    503: MAYBE_RETRY_AFTER,
}


class Components:
    """Collects what is referred to, each under its name."""

    def __init__(self) -> None:
        self.schemas = JsonSchemas()
        self.responses: Json = {}

    def headers(self, headers: Sequence[Header]) -> Json:
        """Return the headers of an answer by name, the request's id among them."""
        return {header.name: self._header(header) for header in (REQUEST_ID, *headers)}

    def problem(self, status: int, codes: Sequence[str]) -> Json:
        """Return a reference to the answer with one of these codes, all of them of one status."""
        name = ".".join(sorted(codes))
        if name not in self.responses:
            self.responses[name] = self._problem(status, sorted(codes))
        return {"$ref": f"#/components/responses/{name}"}

    def _problem(self, status: int, codes: Sequence[str]) -> Json:
        own = PROBLEM_HEADERS.get(status)
        return {
            "description": " / ".join(PROBLEMS[code][1] for code in codes),
            "headers": self.headers((*LIMIT_HEADERS, *(() if own is None else (own,)))),
            "content": {
                PROBLEM_JSON: {
                    "schema": self._problem_schema(status, codes),
                    "examples": {code: {"value": _example_problem(code)} for code in codes},
                }
            },
        }

    def _problem_schema(self, status: int, codes: Sequence[str]) -> Json:
        members: Json = {}
        for code in codes:
            if code in PROBLEM_MEMBERS:
                model = self.schemas.inline(PROBLEM_MEMBERS[code], mode="serialization")
                members |= model["properties"]
        return {
            "allOf": [self.schemas.of(ProblemDetails, mode="serialization")],
            "properties": {"status": {"const": status}, "code": {"enum": list(codes)}, **members},
        }

    def _header(self, header: Header) -> Json:
        return {
            "description": header.description,
            "required": header.is_required,
            "schema": self.schemas.of(header.type, mode="serialization"),
            "example": int(header.example) if header.type is int else header.example,
        }


def _example_problem(code: str) -> Json:
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
