"""Every refusal and failure as RFC 9457 `application/problem+json`, from one table."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from multidict import CIMultiDict

from services.api.web.responses import PROBLEM_HEADERS, WholeResponse

# code -> (status, title). The code is stable; clients decide by it.
PROBLEMS: Mapping[str, tuple[int, str]] = {
    "malformed-request": (400, "The request is not valid HTTP"),
    "malformed-json": (400, "The body is not valid JSON"),
    "validation-failed": (400, "The request is not valid"),
    "captcha-failed": (400, "A captcha has to be solved"),
    "unauthenticated": (401, "A bearer token is required"),
    "invalid-token": (401, "The token is not valid"),
    "invalid-credentials": (401, "The e-mail address or the password is wrong"),
    "session-over": (401, "The session is over"),
    "email-not-confirmed": (403, "The e-mail address is not confirmed yet"),
    "sign-up-closed": (403, "Sign-up is closed"),
    "account-suspended": (403, "The account is suspended"),
    "log-in-closed": (403, "Log-in with a password is closed"),
    "second-factor-needed": (403, "A second factor is needed"),
    "auth-refused": (403, "The authentication service refuses this"),
    "not-found": (404, "There is nothing at this address"),
    "lead-not-found": (404, "There is no such lead"),
    "lead-not-stored-yet": (404, "The lead was accepted, and is not stored yet"),
    "operation-not-found": (404, "There is no such operation"),
    "errors-not-found": (404, "There is no error file"),
    "dead-letter-not-found": (404, "There is no such dead letter"),
    "replay-not-found": (404, "There is no such replay"),
    "sync-not-found": (404, "There is no such sync"),
    "method-not-allowed": (405, "The method is not allowed here"),
    "body-timeout": (408, "The body took too long to arrive"),
    "duplicate-lead": (409, "The lead exists already"),
    "email-taken": (409, "The e-mail address is taken"),
    "replay-finished": (409, "The replay is over"),
    "version-mismatch": (412, "The lead is in another version"),
    "body-too-large": (413, "The body is too large"),
    "unsupported-media-type": (415, "The body is of a type that is not read here"),
    "expectation-failed": (417, "The expectation cannot be met"),
    "key-reused": (422, "The Idempotency-Key was used for another request"),
    "rate-limited": (429, "Too many requests"),
    "headers-too-large": (431, "The request line or a header is too large"),
    "internal-error": (500, "Something went wrong"),
    "operation-failed": (500, "The request could not be carried out"),
    "invalid-model-output": (502, "The language model gave no usable answer"),
    "unavailable": (503, "A part of the service is unavailable"),
    "auth-unavailable": (503, "The authentication service is unavailable"),
    "summaries-unavailable": (503, "Summaries are unavailable"),
    "timeout": (503, "The answer took too long"),
}

TYPE_PREFIX = "urn:leads:problem:"


@dataclass(slots=True, eq=False)
class Problem(Exception):  # noqa: N818 (RFC 9457 names it)
    """A refusal or failure to answer with. `members` are added to the body's own."""

    code: str
    detail: str
    errors: Mapping[str, str] | None = None
    members: Mapping[str, Any] = field(default_factory=dict[str, Any])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def status(self) -> int:
        """The HTTP status."""
        return PROBLEMS[self.code][0]


def validation_problem(errors: Mapping[str, str]) -> Problem:
    """Return the refusal of a request whose parts are named in `errors`."""
    summary = "; ".join(f"{name}: {message}" for name, message in errors.items())
    return Problem("validation-failed", summary, errors=errors)


def problem_response(problem: Problem, *, instance: str) -> WholeResponse:
    """Answer with a problem; `instance` is the path it happened at."""
    body = problem_body(problem, instance=instance)
    return WholeResponse(
        body,
        status=problem.status,
        headers=CIMultiDict(problem.headers),
        common=PROBLEM_HEADERS,
    )


def problem_body(problem: Problem, *, instance: str) -> bytes:
    """Render a problem in one line of JSON."""
    status, title = PROBLEMS[problem.code]
    body: dict[str, Any] = {
        "type": f"{TYPE_PREFIX}{problem.code}",
        "title": title,
        "status": status,
        "detail": problem.detail,
        "instance": instance,
        "code": problem.code,
        # The names that clients of the first version of this API read.
        "error": problem.detail,
    }
    if problem.errors is not None:
        body["errors"] = problem.errors
    body.update(problem.members)
    # ASCII: what is quoted from the request may hold lone surrogates.
    return json.dumps(body, ensure_ascii=True).encode()
