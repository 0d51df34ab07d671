"""`/health`: whether the process lives, and whether it can do its work."""

import asyncio
import time
from collections.abc import Mapping
from datetime import timedelta

import orjson
import structlog
from aiohttp import web

from services.api.server.routing import Call
from services.api.web.responses import json_response
from shared.domain.errors import UnavailableError
from shared.observability.health import Check

log = structlog.get_logger(__name__)

OK, UNAVAILABLE = "ok", "unavailable"
ALIVE = b'{"status":"ok"}'
CHECK_TIMEOUT = timedelta(seconds=1)
GOOD_FOR = timedelta(seconds=2)
NO_STORE = {"Cache-Control": "no-store"}


class HealthHandlers:
    """Liveness touches nothing; readiness asks what the API needs, at most every two seconds."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks
        self._asking = asyncio.Lock()
        self._good_until = 0.0
        self._report: dict[str, str] = {}

    async def alive(self, _call: Call) -> web.StreamResponse:
        """GET /health."""
        return json_response(ALIVE, headers=NO_STORE)

    async def ready(self, _call: Call) -> web.StreamResponse:
        """GET /health/ready: 200, or 503 with the state of each check."""
        async with self._asking:
            if time.monotonic() >= self._good_until:
                self._report = await self._ask()
                self._good_until = time.monotonic() + GOOD_FOR.total_seconds()
        is_well = all(state == OK for state in self._report.values())
        body = {"status": OK if is_well else UNAVAILABLE, "checks": self._report}
        return json_response(orjson.dumps(body), status=200 if is_well else 503, headers=NO_STORE)

    async def _ask(self) -> dict[str, str]:
        states = await asyncio.gather(*(_state(*item) for item in self._checks.items()))
        return dict(zip(self._checks, states, strict=True))


async def _state(name: str, check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT.total_seconds()):
            await check()
    except (UnavailableError, TimeoutError) as error:
        # The reason is for the log: this page is open to everyone.
        log.warning("health.unavailable", check=name, error=str(error) or "no answer in time")
        return UNAVAILABLE
    return OK
