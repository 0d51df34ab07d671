"""Groq's error bodies, see https://console.groq.com/docs/errors."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import NoReturn

from aiohttp import web

from devstack.standins.groq.settings import Dialect, GroqFaults


class GroqError(Exception):
    """A call that Groq refuses."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str | None = None,
        kind: str = "invalid_request_error",
        **details: str,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after: timedelta | None = None
        self._body = {"message": message, "type": kind, **details}
        if code is not None:
            self._body["code"] = code

    def response(self, faults: GroqFaults) -> web.Response:
        headers: dict[str, str] = {}
        if self.retry_after is not None:
            headers["retry-after"] = (
                format_datetime(datetime.now(UTC) + self.retry_after, usegmt=True)
                if faults.retry_after_is_date
                else f"{self.retry_after.total_seconds():g}"
            )
        body = self._body_of(faults.dialect)
        return web.json_response(body, status=self.status, headers=headers)

    def _body_of(self, dialect: Dialect) -> Mapping[str, object]:
        message = {"message": self._body["message"]}
        match dialect:
            case Dialect.GROQ:
                return {"error": self._body}
            case Dialect.OLLAMA:
                kind = {"type": "invalid_request_error", "param": None, "code": None}
                return {"error": message | kind}
            case Dialect.VLLM:
                kind = {"object": "error", "type": "BadRequestError", "param": None}
                return message | kind | {"code": self.status}
            case Dialect.LLAMA_CPP:
                return {"error": message | {"code": self.status, "type": "invalid_request_error"}}


@dataclass(frozen=True, slots=True)
class _Wording:
    message: str
    kind: str = "invalid_request_error"
    code: str | None = None


_WORDINGS = {
    400: _Wording(
        "Failed to generate JSON. Please adjust your prompt. "
        "See 'failed_generation' for more details.",
        code="json_validate_failed",
    ),
    401: _Wording("Invalid API Key", code="invalid_api_key"),
    413: _Wording("Request Entity Too Large", code="request_too_large"),
    429: _Wording(
        "Rate limit reached for model in organization `org_standin` service tier `on_demand` on "
        "requests per minute (RPM). Please try again later.",
        kind="requests",
        code="rate_limit_exceeded",
    ),
    498: _Wording("Flex tier capacity exceeded. Please try again later.", code="capacity_exceeded"),
    500: _Wording("Internal Server Error", kind="internal_server_error"),
    502: _Wording("Bad Gateway", kind="internal_server_error"),
    503: _Wording("Service Unavailable", kind="internal_server_error"),
}
_PASSING = {429, 498, 503}


def error_for_status(status: int, *, retry_after: timedelta) -> GroqError:
    wording = _WORDINGS.get(status, _Wording(f"The request failed with status {status}"))
    details = {"failed_generation": "{"} if status == 400 else {}  # noqa: PLR2004  RFC 9110
    error = GroqError(
        wording.message, status=status, code=wording.code, kind=wording.kind, **details
    )
    if status in _PASSING:
        error.retry_after = retry_after
    return error


def invalid_api_key() -> GroqError:
    return error_for_status(401, retry_after=timedelta(0))


def refuse_unknown_model(model: str) -> NoReturn:
    raise GroqError(
        f"The model `{model}` does not exist or you do not have access to it.",
        status=404,
        code="model_not_found",
    )
