"""Cross-origin access (the Fetch standard): an exact allowlist of origins."""

from collections.abc import Collection

from aiohttp import hdrs, web
from multidict import CIMultiDict

from services.api.web.responses import empty_response

EXPOSED = (
    "Content-Disposition, ETag, Link, Location, RateLimit, RateLimit-Policy, Retry-After, "
    "X-Request-Id, X-Summary-Cache, X-Total-Count"
)
REQUEST_HEADERS = (
    "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, "
    "Prefer, X-Request-Id"
)
PREFLIGHT_SECONDS = "600"


class Cors:
    """Lets pages of the listed origins read the answers, and no others."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = frozenset(origins)

    def apply(self, headers: "CIMultiDict[str]", *, origin: str | None) -> None:
        """Add the headers by which browsers decide whether a page of `origin` may read this."""
        if not self._origins:
            return
        # Also without an Origin: caches must not give this answer to a page that sends one.
        varies = headers.get(hdrs.VARY)
        headers[hdrs.VARY] = f"{varies}, {hdrs.ORIGIN}" if varies else hdrs.ORIGIN
        if origin in self._origins:
            headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = EXPOSED


def options_response(request: web.BaseRequest, *, allowed: str) -> web.StreamResponse:
    """Answer OPTIONS, which also asks on a browser's behalf before it sends a request."""
    headers: dict[str, str] = {hdrs.ALLOW: allowed}
    if hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers:
        headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = allowed
        headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = REQUEST_HEADERS
        headers[hdrs.ACCESS_CONTROL_MAX_AGE] = PREFLIGHT_SECONDS
    return empty_response(204, headers=headers)
