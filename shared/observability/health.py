"""The HTTP server for health and metrics of a service without an API."""

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.aiohttp import make_aiohttp_handler

from shared.observability.logging import describe_error
from shared.settings import ObservabilitySettings

Check = Callable[[], Awaitable[None]]
"""Returns when all is well; raises `UnavailableError` with the reason when it is not."""


@contextlib.asynccontextmanager
async def serve_health(
    settings: ObservabilitySettings,
    checks: Mapping[str, Check],
    *,
    registry: CollectorRegistry | None = None,
) -> AsyncGenerator[None]:
    """Serve `/health` (the process lives), `/health/ready` (it does its work) and `/metrics`."""
    if settings.health_port == 0:
        yield
        return
    app = web.Application()
    app.router.add_get("/health", _alive)
    app.router.add_get("/health/ready", _ready(checks))
    if registry is not None:
        app.router.add_get("/metrics", make_aiohttp_handler(registry))
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=15)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.health_host, settings.health_port).start()
        yield
    finally:
        await runner.cleanup()


async def report(checks: Mapping[str, Check]) -> tuple[bool, dict[str, str]]:
    """Run every check; returns whether all is well, and `ok` or the trouble of each."""
    troubles = {name: await _trouble(check) for name, check in checks.items()}
    return all(trouble == "ok" for trouble in troubles.values()), troubles


async def _trouble(check: Check) -> str:
    try:
        await check()
    except Exception as error:  # noqa: BLE001 (whatever a server answers, it is trouble)
        return describe_error(error)
    return "ok"


async def _alive(_request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


def _ready(checks: Mapping[str, Check]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def ready(_request: web.Request) -> web.Response:
        well, troubles = await report(checks)
        return web.json_response(
            {"status": "ok" if well else "unavailable", "checks": troubles},
            status=200 if well else 503,
        )

    return ready
