"""`/health`: whether the process lives, can take requests, and can do its work.

    /health           200 while the process lives
    /health/serving   503 when others may serve where this process cannot: it stops, or it has no
                      keys to check tokens with
    /health/ready     503 with a check that fails: something that the process needs is not there
                      200 with a warning: it answers, but writes are refused or come late

What readiness tells of concerns all processes alike, nearly always, so a load balancer must not
take them out for it: it asks `/health/serving`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Literal

from aiohttp import web
from pydantic import Field

from services.api.server.routing import Call
from services.api.web.endpoint import Access, Answer, Endpoint, Tag
from services.api.web.responses import NO_STORE, Representation, json_response, with_example
from shared.background import repeat
from shared.domain.errors import TransientError, UnavailableError
from shared.observability.health import Check
from shared.observability.logging import describe_error
from shared.observability.outages import Outages

CHECK_TIMEOUT = timedelta(seconds=1)
GOOD_FOR = timedelta(seconds=2)
# Of a process that is not ready, as one that has just started: whoever waits for it asks again.
BAD_FOR = timedelta(milliseconds=200)
# What a process that has just started does not have yet is no outage.
STARTING = timedelta(seconds=5)

State = Literal["ok", "unavailable"]

Tell = Callable[[Sequence[str]], Awaitable[None]]
"""Tells operators what this process lacks; nothing when it has all. Raises `UnavailableError`."""

# What clients notice, by the warning: this page is open to everyone, and reasons are for the log.
WARNINGS = {
    "full": "A stream is full: writes are answered 503",
    "closed": "The number of partitions is being changed: writes are answered 503",
    "late": "Writes are answered 202 and are applied late",
    "consumers": "A consumer cannot work, or a stream fills up: what it is to do comes late",
}


class NoAnswerError(UnavailableError):
    """A check has not come to an end: whether it would have failed is not known."""


class Alive(Representation):
    """The process lives."""

    model_config = with_example(status="ok")

    status: Literal["ok"]


class Serving(Representation):
    """Whether this process can take requests."""

    model_config = with_example(status="ok")

    status: Annotated[
        Literal["ok", "stopping", "unavailable"],
        Field(description="`unavailable`: it cannot check tokens, as it has no signing keys yet"),
    ]


class Readiness(Representation):
    """Whether the API can do its work, and the state of each thing that it needs."""

    model_config = with_example(
        status="ok",
        checks={"postgres": "ok", "redis": "ok", "replies": "ok", "auth": "ok"},
        warnings=[],
    )

    status: Literal["ok", "degraded", "unavailable"]
    checks: dict[str, State]
    warnings: list[str]


class HealthHandlers:
    """Liveness touches nothing; readiness asks what the API needs.

    At most every two seconds while it has that.

    `warnings` are checks too, named as in `WARNINGS`. `own` is the check of what this process has
    for itself.
    """

    def __init__(
        self,
        checks: Mapping[str, Check],
        warnings: Mapping[str, Check],
        outages: Outages,
        *,
        own: Check,
        tell: Tell,
        starting: timedelta = STARTING,
    ) -> None:
        self._checks = checks
        self._warnings = warnings
        self._outages = outages
        self._own = own
        self._is_stopping = False
        self._tell = tell
        self._asking = asyncio.Lock()
        self._good_until = 0.0
        self._logs_from = time.monotonic() + starting.total_seconds()
        self._readiness = Readiness(status="ok", checks={}, warnings=[])
        self._reasons: Sequence[str] = ()

    def announce_end(self) -> None:
        """Have load balancers let go of this process, which goes on for a while."""
        self._is_stopping = True

    async def watch(self) -> None:
        """Look again and again, so that what begins and ends is logged though nobody asks."""
        await repeat(
            self._look_and_tell, every=GOOD_FOR, outages=self._outages, activity="health watch"
        )

    async def _look_and_tell(self) -> None:
        await self._look()
        await self._tell(self._reasons)

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
        "/health/serving",
        id="isServing",
        tag=Tag.HEALTH,
        summary="Whether this process can take requests",
        explanation="For load balancers. A database that is away changes nothing here: reads from "
        "the cache go on, and writes are accepted or refused one by one.",
        access=Access.PUBLIC,
        answers=(
            Answer.json(200, Serving, "It can"),
            Answer.json(503, Serving, "It stops, or cannot check tokens: send requests elsewhere"),
        ),
        is_limited=False,
        is_lenient=True,
    )
    async def serving(self, _call: Call) -> web.StreamResponse:
        """Answer 200, or 503 when requests are better off elsewhere."""
        serving = Serving(status=await self._serving_status())
        status = 200 if serving.status == "ok" else 503
        return json_response(serving.to_body(), status=status, headers=NO_STORE)

    async def _serving_status(self) -> Literal["ok", "stopping", "unavailable"]:
        if self._is_stopping:
            return "stopping"
        return "ok" if await _failure(self._own) is None else "unavailable"

    @Endpoint(
        "GET",
        "/health/ready",
        id="isReady",
        tag=Tag.HEALTH,
        summary="Whether the API can do its work",
        access=Access.PUBLIC,
        answers=(
            Answer.json(200, Readiness, "It answers, and `warnings` say what is amiss"),
            Answer.json(503, Readiness, "Something that it needs is not there"),
        ),
        is_limited=False,
        is_lenient=True,
    )
    async def ready(self, _call: Call) -> web.StreamResponse:
        """Answer 200, or 503 with the state of each check."""
        readiness = await self._look()
        status = 503 if readiness.status == "unavailable" else 200
        return json_response(readiness.to_body(), status=status, headers=NO_STORE)

    async def _look(self) -> Readiness:
        async with self._asking:
            if time.monotonic() >= self._good_until:
                self._readiness = await self._check_all()
                is_ready = self._readiness.status != "unavailable"
                span = GOOD_FOR if is_ready else BAD_FOR
                self._good_until = time.monotonic() + span.total_seconds()
            return self._readiness

    async def _check_all(self) -> Readiness:
        names = [*self._checks, *self._warnings]
        checks = [*self._checks.values(), *self._warnings.values()]
        failures = dict(zip(names, await asyncio.gather(*map(_failure, checks)), strict=True))
        for name, failure in failures.items():
            if name in self._checks or not isinstance(failure, NoAnswerError):
                self._note(name, failure)
        self._reasons = [
            f"{name}: {failure}"
            for name in self._checks
            if (failure := failures[name]) and failure.dependency != "redis"
        ]
        states: dict[str, State] = {
            name: "unavailable" if failures[name] else "ok" for name in self._checks
        }
        # What a server that is away, or hangs, is to blame for is told by its check.
        warnings = [
            WARNINGS[name]
            for name in self._warnings
            if (failure := failures[name]) is not None
            and failure.dependency is None
            and not isinstance(failure, NoAnswerError)
        ]
        is_ready = all(state == "ok" for state in states.values())
        if is_ready:
            self._logs_from = 0.0
        status: Literal["ok", "degraded"] = "degraded" if warnings else "ok"
        return Readiness(
            status=status if is_ready else "unavailable", checks=states, warnings=warnings
        )

    def _note(self, name: str, failure: UnavailableError | None) -> None:
        if failure is None:
            self._outages.worked(name)
        elif time.monotonic() > self._logs_from:
            self._outages.failed(name, failure)


async def _failure(check: Check) -> UnavailableError | None:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT.total_seconds()):
            await check()
    except UnavailableError as error:
        return error
    except TransientError as error:
        return UnavailableError(str(error))
    except TimeoutError:
        return NoAnswerError("no answer in time")
    except Exception as error:  # noqa: BLE001 (whatever a server answers, it is not ready)
        return UnavailableError(describe_error(error))
    return None
