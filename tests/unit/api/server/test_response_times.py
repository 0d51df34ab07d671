"""How long requests took, as it is exported."""

from aiohttp import web
from prometheus_client import CollectorRegistry

from services.api.server.routing import Call, Route, Router


async def answer(_call: Call) -> web.StreamResponse:
    return web.Response()


READ = Route("GET", "/leads/{id}", answer)
NAME = "http_server_request_duration_seconds"


def test_requests_are_counted_by_route_and_status() -> None:
    router = Router([READ])
    registry = CollectorRegistry()
    registry.register(router)
    READ.times.observe(200, 0.001)
    READ.times.observe(200, 0.04)
    READ.times.observe(200, 60)
    READ.times.observe(404, 0.001)
    router.others.observe(404, 0.5)

    def value(suffix: str, status: int, route: str = READ.path, **more: str) -> float | None:
        labels = {
            "http_request_method": "GET" if route == READ.path else "_OTHER",
            "http_route": route,
            "http_response_status_code": str(status),
        }
        return registry.get_sample_value(f"{NAME}_{suffix}", labels | more)

    assert [value("bucket", 200, le=le) for le in ("0.005", "0.05", "10.0", "+Inf")] == [1, 2, 2, 3]
    assert value("sum", 200) == 0.001 + 0.04 + 60
    assert value("count", 404) == 1
    assert value("bucket", 404, "_OTHER", le="0.1") == 0
    assert value("bucket", 404, "_OTHER", le="0.5") == 1
