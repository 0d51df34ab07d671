"""The HTTP server for health and metrics: on a port of its own, which the public does not reach."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

from aiohttp import hdrs, web
from prometheus_client.exposition import choose_encoder

from shared.background import background
from shared.observability.logging import describe_error
from shared.observability.metrics import REGISTRY, watch_process
from shared.settings import ObservabilitySettings

Check = Callable[[], Awaitable[None]]
"""Returns when all is well; raises `UnavailableError` with the reason when it is not."""


@contextlib.asynccontextmanager
async def serve_health(
    settings: ObservabilitySettings, checks: Mapping[str, Check]
) -> AsyncGenerator[None]:
    """Serve `/health` (the process lives), `/health/ready` (it does its work) and `/metrics`."""
    if settings.health_port == 0:
        yield
        return
    app = web.Application()
    app.router.add_get("/health", _alive)
    app.router.add_get("/health/ready", _ready(checks))
    app.router.add_get("/metrics", _metrics)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=15)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.health_host, settings.health_port).start()
        async with background(watch_process(), name="process metrics"):
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


async def _metrics(request: web.Request) -> web.Response:
    encode, content_type = choose_encoder(request.headers.get(hdrs.ACCEPT, ""))
    # Beside the event loop: thousands of lines would hold every request up.
    text = await asyncio.to_thread(encode, REGISTRY)
    return web.Response(body=text, headers={hdrs.CONTENT_TYPE: content_type})


def _ready(checks: Mapping[str, Check]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def ready(_request: web.Request) -> web.Response:
        well, troubles = await report(checks)
        return web.json_response(
            {"status": "ok" if well else "unavailable", "checks": troubles},
            status=200 if well else 503,
        )

    return ready
