"""What every request passes through: one function in place of a chain.

Request id, route, caller, deadline, errors as problems, CORS, the access log. A chain of
middlewares costs more than the read from the cache that most requests come for.
"""

import asyncio
import hmac
import itertools
import time
from collections.abc import Callable, Collection, Mapping
from contextvars import Context
from datetime import timedelta

import structlog
from aiohttp import hdrs, web
from multidict import istr

from services.api.auth.verifier import TokenVerifier
from services.api.server.limits import CallLimits
from services.api.server.routing import OTHER_TIMES, Call, Route, Router
from services.api.web.body import Unknown
from services.api.web.endpoint import Access
from services.api.web.headers import accepts_gzip, only_value
from services.api.web.problems import Problem, problem_response
from services.api.web.query import refuse_unknown
from services.api.web.responses import WholeResponse, empty_response
from services.api.web.streaming import StreamedResponse
from shared.domain.errors import TransientError
from shared.events.envelope import is_sane_id, new_id
from shared.observability import tracing
from shared.observability.logging import frames

log = structlog.get_logger(__name__)

# Of cross-origin access (the Fetch standard).
EXPOSED = (
    "Content-Disposition, ETag, Link, Location, RateLimit, RateLimit-Policy, Retry-After, "
    "X-Request-Id, X-Summary-Cache, X-Total-Count"
)
# Any: tracing and monitoring add headers of their own. Only Authorization is not in the asterisk.
# What follows is for browsers that do not know it.
REQUEST_HEADERS = (
    "*, Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, "
    "Prefer, X-Request-Id, traceparent, tracestate, baggage"
)
PREFLIGHT_SECONDS = "600"


class Cors:
    """Lets pages of an exact allowlist of origins read the answers, and no others."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = frozenset(origins)

    def apply(self, response: web.StreamResponse, asked: Mapping[str, str]) -> None:
        """Add the headers by which browsers decide whether a page may read this.

        Whose page it is, is among the headers of the request: `asked`.
        """
        if not self._origins:
            return
        headers, origin = response.headers, asked.get(hdrs.ORIGIN)
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


REQUEST_ID = istr("X-Request-Id")
SAFE_METHODS = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS})
ERRORS = 400
HEALTH = "/health"
OPERATOR_HEADER = "X-API-Key"
# No scheme is registered for keys in headers of their own.
OPERATOR_CHALLENGE = f'ApiKey realm="operators", header="{OPERATOR_HEADER}"'
# How long requests still come in on open connections after the last connection was accepted.
ON_THEIR_WAY = timedelta(milliseconds=500)
RETRY_LATER = {"Retry-After": "2"}

# What every line of a request has: structlog's own variable, which it looks up anew each time.
_bound_id = Context().run(structlog.contextvars.bind_contextvars, request_id="")["request_id"].var

# TimeoutError: the request's own deadline, and those of reads that name no better reason.
_EXPECTED = (Problem, TransientError, TimeoutError)


class Gateway:
    """Answers requests by the routes' handlers."""

    def __init__(
        self,
        router: Router,
        verifier: TokenVerifier,
        *,
        cors: Cors,
        limits: CallLimits | None,
        operator_key: str | None,
        request_timeout: timedelta,
        logs_reads: bool,
        on_drain: Callable[[], None],
        unknown: Unknown = "refuse",
    ) -> None:
        self._router = router
        self._verifier = verifier
        self._cors = cors
        self._limits = limits
        self._operator_key = operator_key
        self._request_seconds = request_timeout.total_seconds()
        self._logs_reads = logs_reads
        self._on_drain = on_drain
        self._unknown: Unknown = unknown
        self._ids = RequestIds()
        self._ended = EndedRequests()
        self._in_flight = 0
        self._is_draining = False
        self._idle = asyncio.Event()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request. What it raises is a defect, and answered by `defect`."""
        started = time.perf_counter()
        headers = request.headers
        request_id = self._ids.of(headers)
        _bound_id.set(request_id)
        route: Route | None = None
        call: Call | None = None
        reason: str | None = None
        self._in_flight += 1
        try:
            if request.method == hdrs.METH_OPTIONS:
                response: web.StreamResponse = self._options(request)
            else:
                route, param = self._router.find(request.method, request.rel_url.path_safe)
                call = Call(request, request_id, param)
                response = await self._handle(route, call)
                if isinstance(response, WholeResponse) and response.is_long:
                    await response.compress(is_accepted=accepts_gzip(headers))
                elif type(response) is StreamedResponse:  # an ABC's isinstance() takes a while
                    # Under way until its body has been sent.
                    self._in_flight += 1
                    response.on_end = self._leave
        except _EXPECTED as error:
            response = problem_response(_problem(error), instance=request.rel_url.raw_path)
            reason = str(error) if isinstance(error, TransientError) else None
        except Exception:
            self._count(route, web.HTTPInternalServerError.status_code, started)
            raise
        finally:
            self._leave()
        self._finish(response, request_id, headers, call)
        status = response.status
        seconds = self._count(route, status, started)
        if self._is_logged(request.method, route, status):
            ids = {"request_id": request_id, **((call and call.ids) or {})}
            if tracing.tracer is not None:
                ids |= tracing.tracer.ids
            self._ended.add(_end_of(request.method, route, status, seconds, reason=reason), ids)
        return response

    def unreadable(self, problem: Problem) -> web.StreamResponse:
        """Answer what could not be read as a request."""
        response = problem_response(problem, instance="")
        self._finish(response, self._ids.new(), {})
        return response

    def defect(self, request: web.BaseRequest, error: BaseException | None) -> web.StreamResponse:
        """Answer a request whose handling failed in a way that was not foreseen."""
        request_id = _bound_id.get(self._ids.new())
        log_defect(error)
        problem = Problem("internal-error", f"It was logged with the request id {request_id}")
        response = problem_response(problem, instance=request.rel_url.raw_path)
        self._finish(response, request_id, request.headers)
        return response

    async def drain(self, *, grace: timedelta = ON_THEIR_WAY) -> None:
        """Have clients close their connections, and return when no request is under way."""
        self._is_draining = True
        self._on_drain()
        # A request may be on its way on a connection that looks idle: closed now, it would be
        # lost, and its sender would not know whether it had been carried out.
        await asyncio.sleep(grace.total_seconds())
        self._idle.clear()
        if self._in_flight:
            await self._idle.wait()

    def _count(self, route: Route | None, status: int, started: float) -> float:
        """Count an answer; returns the seconds it took."""
        seconds = time.perf_counter() - started
        (OTHER_TIMES if route is None else route.times)[status].observe(seconds)
        if tracing.tracer is not None:
            method, path = ("_OTHER", None) if route is None else (route.method, route.path)
            tracing.tracer.answered(method, path, status)
        return seconds

    async def _handle(self, route: Route, call: Call) -> web.StreamResponse:
        if route.access is Access.USER:
            # As `only_value` has it, which is asked where there is not just one.
            headers = call.request.headers
            values = headers.getall(hdrs.AUTHORIZATION, ())
            one = values[0] if len(values) == 1 else only_value(headers, hdrs.AUTHORIZATION)
            authorization = one or ""
            # Nearly always remembered, and then not worth a coroutine.
            call.caller = self._verifier.remembered(authorization)
            if call.caller is None:
                call.caller = await self._verifier.verify(authorization)
        limits = self._limits if route.is_limited else None
        # Calls are nearly always leased to this process.
        if limits is not None and not limits.spend_leased(call, route.access):
            await limits.spend(call, route.access)
        if route.access is Access.OPERATOR:
            self._check_operator(call.request)
        else:
            # What an operator asks for may be costly to be misunderstood.
            call.unknown = self._unknown
        # Most addresses have no parameters, and then none are looked for.
        if route.parameters is not None and call.request.rel_url.raw_query_string:
            refuse_unknown(call.request.query, route.parameters, unknown=call.unknown)
        if route.is_bounded:
            return await route.handler(call)
        async with asyncio.timeout(self._request_seconds):
            return await route.handler(call)

    def _is_logged(self, method: str, route: Route | None, status: int) -> bool:
        if self._logs_reads:
            return True
        if status < ERRORS and method in SAFE_METHODS:
            return False
        # Probes come every few seconds; the log has when their answer changes, and why.
        return route is None or not route.path.startswith(HEALTH)

    def _options(self, request: web.BaseRequest) -> web.StreamResponse:
        resource, _ = self._router.resource(request.rel_url.path_safe)
        return options_response(request, allowed=resource.allowed)

    def _check_operator(self, request: web.BaseRequest) -> None:
        header = only_value(request.headers, OPERATOR_HEADER) or ""
        given = header.encode(errors="surrogateescape")
        expected = self._operator_key
        if expected is None or not hmac.compare_digest(given, expected.encode()):
            raise Problem(
                "unauthenticated",
                f"Send the operators' key in {OPERATOR_HEADER}",
                headers={hdrs.WWW_AUTHENTICATE: OPERATOR_CHALLENGE},
            )

    def _finish(
        self,
        response: web.StreamResponse,
        request_id: str,
        asked: Mapping[str, str],
        call: Call | None = None,
    ) -> None:
        if isinstance(response, WholeResponse):
            response.request_id = request_id
        else:
            response.headers[REQUEST_ID] = request_id
        if call is not None and call.limit_headers:
            response.headers.update(call.limit_headers)
        self._cors.apply(response, asked)
        if self._is_draining:
            response.force_close()

    def _leave(self) -> None:
        self._in_flight -= 1
        if self._is_draining and not self._in_flight:
            self._idle.set()


class RequestIds:
    """A request's id: the caller's own when it is a sane one, else a new one.

    A new one is a part that is the process's own and a number: as unique as a UUID, and cheaper.
    """

    def __init__(self) -> None:
        self._prefix = new_id().hex[-12:]
        self._numbers = itertools.count(1)

    def of(self, headers: Mapping[str, str]) -> str:
        """Return the id of the request with these headers."""
        given = headers.get(REQUEST_ID)
        if given is not None and is_sane_id(given):
            return given
        return self.new()

    def new(self) -> str:
        """Return an id that no other request has."""
        return f"{self._prefix}-{next(self._numbers):x}"


def _problem(error: Exception) -> Problem:
    match error:
        case Problem():
            return error
        case TransientError():
            return Problem("unavailable", "Something this needs is down", headers=RETRY_LATER)
        case _:
            return Problem("timeout", "The answer took too long", headers=RETRY_LATER)


def _end_of(
    method: str, route: Route | None, status: int, seconds: float, *, reason: str | None
) -> dict[str, object]:
    line: dict[str, object] = {
        "method": method,
        # Not the path: people put e-mail addresses into paths.
        "route": None if route is None else route.path,
        "status": status,
        "ms": round(seconds * 1000, 1),
    }
    if reason is not None:
        line["reason"] = reason
    return line


class EndedRequests:
    """Logs the requests that end in one turn of the event loop, all at once.

    One line alone costs three times as much, and many creates are answered together.
    """

    def __init__(self) -> None:
        self._lines: list[dict[str, object]] = []

    def add(self, line: dict[str, object], ids: Mapping[str, object]) -> None:
        """Log a request at the end of this turn."""
        self._lines.append({**ids, **line})
        if len(self._lines) == 1:
            asyncio.get_running_loop().call_soon(self._log)

    def _log(self) -> None:
        lines, self._lines = self._lines, []
        log.info("request.ended", each=lines)


def log_defect(error: BaseException | None) -> None:
    """Log an unforeseen failure: no message and no values, for these may be personal."""
    log.error("http.defect", error=type(error).__name__, traceback=frames(error))
