"""Finds the handler of a method and path, as the handlers' endpoints declare them."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel

from services.api.auth.tokens import User
from services.api.web.body import Unknown, parse
from services.api.web.endpoint import Access, declared_endpoints
from services.api.web.problems import Problem
from services.api.web.query import NO_PARAMETERS, KnownParameters, Query, parse_query
from shared.events.envelope import Event, EventData
from shared.observability import tracing
from shared.observability.metrics import Series, histogram

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
    ids: Mapping[str, str] | None = None

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
        of_lead = {"lead_id": event.subject} if isinstance(subject, UUID) else {}
        self.ids = {"event_id": str(event.id), **of_lead}
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


_DURATION = histogram(
    "http_server_request_duration_seconds",
    "Requests, from their headers to their answer's; a stream goes on after that. `_OTHER` is what "
    "no route answers.",
    ["http_request_method", "http_route", "http_response_status_code"],
)


class ResponseTimes(dict[int, Series]):
    """How long requests of one route took, by the answer's status."""

    def __init__(self, method: str, path: str) -> None:
        super().__init__()
        self._route = method, path

    def __missing__(self, status: int) -> Series:
        return self.begin(status)

    def begin(self, status: int) -> Series:
        """Begin a series at 0."""
        series = self[status] = _DURATION.labels(*self._route, str(status))
        return series


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
    # What it nearly always answers: a rate cannot see the first of a series that begins with it.
    statuses: Sequence[int] = ()
    times: ResponseTimes = field(init=False, compare=False)

    def __post_init__(self) -> None:
        times = ResponseTimes(self.method, self.path)
        for status in self.statuses:
            times.begin(status)
        object.__setattr__(self, "times", times)


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
            (endpoint.answers[0].status, _UNAVAILABLE),
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


# Of requests that no route answers.
OTHER_TIMES = ResponseTimes("_OTHER", "_OTHER")


class Router:
    """Finds routes by path and method. HEAD is answered wherever GET is."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._literal: dict[str, Resource] = {}
        self._variable: list[tuple[re.Pattern[str], Resource]] = []
        # By all but a variable last part: most addresses are a lead's.
        self._by_parent: dict[str, Resource] = {}
        for route in routes:
            resource = self._resource(route.path)
            resource.routes[route.method] = route
            if route.method == "GET":
                resource.routes["HEAD"] = route

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
        parent, _, last = path.rpartition("/")
        resource = self._by_parent.get(parent)
        if resource is not None and last:
            return resource, last
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
            if before.endswith("/") and not after and not name.endswith("*"):
                self._by_parent[before[:-1]] = resource
        else:
            self._literal[path] = resource
        return resource
