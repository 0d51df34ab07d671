"""`/health`: whether the process lives, and whether it can do its work."""

import asyncio
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Literal

import structlog
from aiohttp import web

from services.api.server.routing import Call
from services.api.web.endpoint import Access, Answer, Endpoint, Tag
from services.api.web.responses import NO_STORE, Representation, json_response, with_example
from shared.observability.health import Check
from shared.observability.logging import error_fields

log = structlog.get_logger(__name__)

CHECK_TIMEOUT = timedelta(seconds=1)
GOOD_FOR = timedelta(seconds=2)

State = Literal["ok", "unavailable"]


class Alive(Representation):
    """The process lives."""

    model_config = with_example(status="ok")

    status: Literal["ok"]


class Readiness(Representation):
    """Whether the API can do its work, and the state of each thing that it needs."""

    model_config = with_example(
        status="ok", checks={"postgres": "ok", "redis": "ok", "replies": "ok", "auth": "ok"}
    )

    status: State
    checks: dict[str, State]


class HealthHandlers:
    """Liveness touches nothing; readiness asks what the API needs, at most every two seconds."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks
        self._asking = asyncio.Lock()
        self._good_until = 0.0
        self._states: dict[str, State] = {}

    # Probes add parameters of their own, to get past caches.
    @Endpoint(
        "GET",
        "/health",
        id="isAlive",
        tag=Tag.HEALTH,
        summary="Whether the process lives",
        access=Access.PUBLIC,
        answers=(Answer.json(200, Alive, "It does"),),
        is_limited=False,
        is_lenient=True,
    )
    async def alive(self, _call: Call) -> web.StreamResponse:
        """Answer 200."""
        return json_response(Alive(status="ok").to_body(), headers=NO_STORE)

    @Endpoint(
        "GET",
        "/health/ready",
        id="isReady",
        tag=Tag.HEALTH,
        summary="Whether the API can do its work",
        access=Access.PUBLIC,
        answers=(
            Answer.json(200, Readiness, "Everything that it needs is there"),
            Answer.json(503, Readiness, "Something that it needs is not there"),
        ),
        is_limited=False,
        is_lenient=True,
    )
    async def ready(self, _call: Call) -> web.StreamResponse:
        """Answer 200, or 503 with the state of each check."""
        async with self._asking:
            if time.monotonic() >= self._good_until:
                self._states = await self._check_all()
                self._good_until = time.monotonic() + GOOD_FOR.total_seconds()
        is_ready = all(state == "ok" for state in self._states.values())
        readiness = Readiness(status="ok" if is_ready else "unavailable", checks=self._states)
        return json_response(readiness.to_body(), status=200 if is_ready else 503, headers=NO_STORE)

    async def _check_all(self) -> dict[str, State]:
        states = await asyncio.gather(*(_state(*item) for item in self._checks.items()))
        return dict(zip(self._checks, states, strict=True))


async def _state(name: str, check: Check) -> State:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT.total_seconds()):
            await check()
    except Exception as error:  # noqa: BLE001 (whatever a server answers, it is not ready)
        # The reason is for the log: this page is open to everyone.
        log.warning("health.unavailable", check=name, **error_fields(error))
        return "unavailable"
    return "ok"
