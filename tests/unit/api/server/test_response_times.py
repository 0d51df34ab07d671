"""How long requests took, as it is exported."""

from aiohttp import web

from services.api.server.routing import OTHER_TIMES, Call, Route
from shared.observability.metrics import REGISTRY

NAME = "http_server_request_duration_seconds"


async def answer(_call: Call) -> web.StreamResponse:
    return web.Response()


def value(route: Route, suffix: str, status: int, **more: str) -> float | None:
    labels = {
        "http_request_method": route.method,
        "http_route": route.path,
        "http_response_status_code": str(status),
    }
    return REGISTRY.get_sample_value(f"{NAME}_{suffix}", labels | more)


def test_requests_are_counted_by_route_and_status() -> None:
    route = Route("GET", "/of-this-test/{id}", answer, statuses=(200, 503))
    assert [value(route, "count", status) for status in (200, 503, 404)] == [0, 0, None]
    for seconds in (0.001, 0.005, 0.04, 60):
        route.times[200].observe(seconds)
    route.times[404].observe(0.001)

    bounds = ("0.005", "0.025", "0.05", "10.0", "+Inf")
    assert [value(route, "bucket", 200, le=le) for le in bounds] == [2, 2, 3, 3, 4]
    assert value(route, "sum", 200) == 0.001 + 0.005 + 0.04 + 60
    assert value(route, "count", 404) == 1


def test_what_no_route_answers_is_counted_as_other() -> None:
    other = Route("_OTHER", "_OTHER", answer)
    before = value(other, "count", 404) or 0
    OTHER_TIMES[404].observe(0.5)

    assert value(other, "count", 404) == before + 1
