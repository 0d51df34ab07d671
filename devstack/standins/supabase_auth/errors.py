"""Supabase Auth's error bodies, in both of the shapes its API versions have.

See https://supabase.com/docs/guides/auth/debugging/error-codes.
"""

from aiohttp import web
from aiohttp.typedefs import Handler

VERSION_HEADER = "X-Supabase-Api-Version"
FIRST_VERSION_WITH_CODES = "2024-01-01"


class AuthError(Exception):
    """A request that is refused; clients distinguish refusals by their `code`."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def response(self, *, version: str) -> web.Response:
        headers = {"x-sb-error-code": self.code}
        if version < FIRST_VERSION_WITH_CODES:
            body = {"code": self.status, "error_code": self.code, "msg": self.message}
        else:
            headers[VERSION_HEADER] = FIRST_VERSION_WITH_CODES
            body = {"code": self.code, "message": self.message}
        return web.json_response(body | self.details(), status=self.status, headers=headers)

    def details(self) -> dict[str, object]:
        return {}


class WeakPasswordError(AuthError):
    """A password that does not meet the project's requirements."""

    def __init__(self, message: str, reasons: list[str]) -> None:
        super().__init__(422, "weak_password", message)
        self.reasons = reasons

    def details(self) -> dict[str, object]:
        return {"weak_password": {"reasons": self.reasons}}


class GatewayError(Exception):
    """A request that the API gateway in front of Supabase Auth turns away."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self._body = {"message": message, "hint": hint}

    def response(self) -> web.Response:
        return web.json_response(self._body, status=401)


def invalid(message: str) -> AuthError:
    return AuthError(400, "validation_failed", message)


@web.middleware
async def word_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns refusals into the body that the caller's API version expects."""
    try:
        return await handler(request)
    except AuthError as error:
        return error.response(version=_version(request))
    except GatewayError as error:
        return error.response()


def _version(request: web.Request) -> str:
    """The newest version not later than what the caller asks for; without a header the oldest."""
    asked = request.headers.get(VERSION_HEADER, "")
    return FIRST_VERSION_WITH_CODES if asked >= FIRST_VERSION_WITH_CODES else ""


_FORCED = {
    429: AuthError(429, "over_request_rate_limit", "Request rate limit reached"),
    500: AuthError(
        500,
        "unexpected_failure",
        "Unexpected failure, please check server logs for more information",
    ),
    504: AuthError(
        504,
        "request_timeout",
        "Processing this request timed out, please retry after a moment.",
    ),
}


def refuse(status: int) -> web.Response:
    """A refusal on demand; what the service has no words for comes from the gateway."""
    if (error := _FORCED.get(status)) is not None:
        # Both shapes at once: a fault does not look at the request.
        body = {"code": status, "error_code": error.code, "msg": error.message}
        return web.json_response(body, status=status, headers={"x-sb-error-code": error.code})
    return web.Response(text="upstream connect error or disconnect/reset", status=status)
