"""Finds the handler of a method and path, as the handlers' endpoints declare them."""

import itertools
import re
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

from aiohttp import web
from prometheus_client import Metric
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from pydantic import BaseModel

from services.api.auth.tokens import User
from services.api.web.body import Unknown, parse
from services.api.web.endpoint import Access, declared_endpoints
from services.api.web.problems import Problem
from services.api.web.query import NO_PARAMETERS, KnownParameters, Query, parse_query
from shared.events.envelope import Event, EventData
from shared.observability import tracing
from shared.observability.metrics import SECONDS, family

Model = TypeVar("Model", bound=BaseModel)
GivenQuery = TypeVar("GivenQuery", bound=Query)
Data = TypeVar("Data", bound=EventData)


@dataclass(slots=True)  # not frozen: that would triple the cost of making one
class Call:
    """A request on its way to a handler.

    `id` is the request's id, `param` the variable part of its path, `user` the caller of a
    route with `Access.USER`, `limit_headers` what every answer says of its rate limit. `unknown`
    is what to do about fields and parameters of this route that nobody knows. `ids` is what the log
    says of a request besides, such as of the event that it led to.
    """

    request: web.BaseRequest
    id: str
    param: str
    caller: User | None = None
    limit_headers: tuple[tuple[str, str], ...] = ()
    unknown: Unknown = "refuse"
    ids: dict[str, str] = field(default_factory=dict[str, str])

    def event(self, data: Data, *, subject: UUID | str, **options: Any) -> Event[Data]:
        """Return the event that this request leads to; the options are fields of `Event`."""
        event = Event(
            source="api",
            subject=str(subject),
            correlation_id=self.id,
            traceparent=self._traceparent(),
            data=data,
            **options,
        )
        self.ids = {"event_id": str(event.id)}
        if isinstance(subject, UUID):
            self.ids |= {"lead_id": event.subject}
        return event

    def _traceparent(self) -> str | None:
        """Return the context in which the event goes on: the client's, or this service's in it."""
        given = self.request.headers.get(tracing.TRACEPARENT)
        if tracing.tracer is not None:
            return tracing.tracer.carried(given)
        return None if given is None or tracing.context_of(given) is None else given

    @property
    def user(self) -> User:
        """The signed-in caller."""
        if self.caller is None:
            raise RuntimeError("The route is open to callers who are not signed in")
        return self.caller

    def parse(self, model: type[Model], value: object) -> Model:
        """Validate a JSON value of the request; raises `Problem` 400."""
        return parse(model, value, unknown=self.unknown)

    def parse_query(self, model: type[GivenQuery]) -> GivenQuery:
        """Read the address's parameters; raises `Problem` 400."""
        return parse_query(model, self.request.query, unknown=self.unknown)


Handler: TypeAlias = Callable[[Call], Awaitable[web.StreamResponse]]


_UNAVAILABLE = 503


class ResponseTimes:
    """How long requests of one route took, by the answer's status.

    In plain lists: the library's histogram takes several times as long, for every request.
    """

    __slots__ = ("_cells",)

    def __init__(self, *begin: int) -> None:
        # A count for each bucket, and the sum.
        self._cells: dict[int, list[float]] = {}
        for status in begin:  # a rate cannot see the first answer of a series that begins with it
            self._begin(status)

    def observe(self, status: int, seconds: float) -> None:
        """Count an answer."""
        cells = self._cells.get(status) or self._begin(status)
        cells[bisect_left(SECONDS, seconds)] += 1
        cells[-1] += seconds

    def histograms(self) -> Iterator[tuple[str, list[tuple[str, float]], float]]:
        """Yield each status, its cumulative buckets, and its sum."""
        for status, (*buckets, total) in list(self._cells.items()):
            yield str(status), list(zip(_BOUNDS, itertools.accumulate(buckets), strict=True)), total

    def _begin(self, status: int) -> list[float]:
        cells = self._cells[status] = [0.0] * (len(SECONDS) + 2)
        return cells


_BOUNDS = [str(float(bound)) for bound in SECONDS] + ["+Inf"]
_DURATION = family(
    "http_server_request_duration_seconds",
    "histogram",
    "Requests, from their headers to their answer's; a stream goes on after that. `_OTHER` is what "
    "no route answers.",
    ["http_request_method", "http_route", "http_response_status_code"],
)


@dataclass(frozen=True, slots=True)
class Route:
    """An endpoint and the handler that answers it, with all that the gateway asks of each request.

    The path may have one variable part, written `{name}`, or `{name*}` where it goes on over
    slashes. See `Endpoint` for the rest.
    """

    method: str
    path: str
    handler: Handler
    access: Access = Access.USER
    is_bounded: bool = False
    is_limited: bool = True
    parameters: KnownParameters | None = NO_PARAMETERS
    times: ResponseTimes = field(default_factory=ResponseTimes, compare=False)


def routes_of(*handlers: object) -> list[Route]:
    """Return the routes that the methods of these objects answer."""
    return [
        Route(
            endpoint.method,
            endpoint.path,
            getattr(one, method),
            endpoint.access,
            endpoint.is_bounded,
            endpoint.is_limited,
            endpoint.known_parameters,
            ResponseTimes(endpoint.answers[0].status, _UNAVAILABLE),
        )
        for one in handlers
        for method, endpoint in declared_endpoints(type(one))
    ]


@dataclass(frozen=True, slots=True)
class Resource:
    """The routes at one path."""

    path: str
    routes: dict[str, Route] = field(default_factory=dict[str, Route])

    @property
    def allowed(self) -> str:
        """The value of an Allow header."""
        return ", ".join(sorted({*self.routes, "OPTIONS"}))


class Router(Collector):
    """Finds routes by path and method. HEAD is answered wherever GET is.

    As a collector it exports what the routes count; `others` is for what no route answers.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes
        self.others = ResponseTimes()
        self._literal: dict[str, Resource] = {}
        self._variable: list[tuple[re.Pattern[str], Resource]] = []
        for route in routes:
            resource = self._resource(route.path)
            resource.routes[route.method] = route
            if route.method == "GET":
                resource.routes["HEAD"] = route

    def collect(self) -> Iterator[Metric]:
        """Yield how long requests took."""
        durations = HistogramMetricFamily(
            _DURATION.name, _DURATION.description, labels=_DURATION.labels
        )
        named = [((route.method, route.path), route.times) for route in self._routes]
        for names, times in [*named, (("_OTHER", "_OTHER"), self.others)]:
            for status, buckets, total in times.histograms():
                durations.add_metric([*names, status], buckets, total)
        yield durations

    def find(self, method: str, path: str) -> tuple[Route, str]:
        """Return the route and the variable part of the path; raises `Problem` 404 or 405."""
        resource, param = self.resource(path)
        route = resource.routes.get(method)
        if route is None:
            raise Problem(
                "method-not-allowed",
                f"{resource.path} answers to {resource.allowed}",
                headers={"Allow": resource.allowed},
            )
        return route, param

    def resource(self, path: str) -> tuple[Resource, str]:
        """Return what is at a path, and the variable part of it; raises `Problem` 404.

        One slash too many at the end is forgiven, as by the first version of this API.
        """
        found = self._at(path)
        if found is None and path.endswith("/"):
            found = self._at(path[:-1])
        if found is None:
            raise Problem("not-found", "There is nothing at this address")
        return found

    def _at(self, path: str) -> tuple[Resource, str] | None:
        resource = self._literal.get(path)
        if resource is not None:
            return resource, ""
        for pattern, candidate in self._variable:
            match = pattern.fullmatch(path)
            if match is not None:
                return candidate, match[1]
        return None

    def _resource(self, path: str) -> Resource:
        known = {resource.path: resource for _, resource in self._variable} | self._literal
        if path in known:
            return known[path]
        resource = Resource(path)
        if "{" in path:
            before, _, rest = path.partition("{")
            name, _, after = rest.partition("}")
            part = ".+" if name.endswith("*") else "[^/]+"
            pattern = re.compile(f"{re.escape(before)}({part}){re.escape(after)}")
            self._variable.append((pattern, resource))
        else:
            self._literal[path] = resource
        return resource
