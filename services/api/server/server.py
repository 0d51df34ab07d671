"""The HTTP server: aiohttp's low-level one, so that every answer comes from the gateway.

`web.Application` would answer unknown routes, methods and unreadable requests in its own
words, and its routing alone costs a fifth of a read from the cache.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from typing import Any

import structlog
from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong

from services.api.server.gateway import ON_THEIR_WAY, Gateway, log_defect
from services.api.settings import HttpSettings
from services.api.web.body import BODY_LIMIT
from services.api.web.problems import Problem
from shared.observability import tracing

log = structlog.get_logger(__name__)

# How long a client that was refused may go on sending before it is cut off.
LINGERING = timedelta(seconds=2)
BACKLOG = 1_024
# Tokens of users with many claims have some 10 kB, and so have the cookies of some browsers.
HEADER_LIMIT = 18 << 10
# For aiohttp to close what is left: by then every request has been answered.
SHUTDOWN_TIMEOUT = 0.5


class Connection(web.RequestHandler):
    """A client's connection whose errors are problems too."""

    __slots__ = ("_gateway",)

    def __init__(self, server: "Server", gateway: Gateway, **options: Any) -> None:
        super().__init__(server, **options)
        self._gateway = gateway

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what aiohttp could not read, and what a handler did not foresee."""
        if request.writer.output_size > 0:
            raise ConnectionError("The answer had begun before it failed")
        if status < web.HTTPInternalServerError.status_code:
            response = self._gateway.unreadable(_unreadable(exc, message))
        else:
            response = self._gateway.defect(request, exc)
        response.force_close()
        return response

    def log_exception(self, *_args: Any, **named: Any) -> None:
        """Log what went wrong in the middle of an answer, or in aiohttp itself."""
        log_defect(named.get("exc_info"))


class Server(web.Server):
    """Makes a `Connection` for each client."""

    def __init__(self, gateway: Gateway, *, keepalive: timedelta) -> None:
        tracer = tracing.tracer
        handler = gateway if tracer is None else tracer.traced(gateway)
        super().__init__(handler, request_factory=self._request)
        self._gateway = gateway
        self._keepalive = keepalive

    def __call__(self) -> web.RequestHandler:
        return Connection(
            self,
            self._gateway,
            loop=asyncio.get_running_loop(),
            access_log=None,
            keepalive_timeout=self._keepalive.total_seconds(),
            lingering_time=LINGERING.total_seconds(),
            max_line_size=HEADER_LIMIT,
            max_field_size=HEADER_LIMIT,
            # A small body must not become a large one.
            auto_decompress=False,
        )

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        # The base's loop: to ask for the one that runs is a system call up to Python 3.11.
        return web.BaseRequest(
            message, payload, protocol, writer, task, self._loop, client_max_size=BODY_LIMIT
        )


@contextlib.asynccontextmanager
async def serving(
    gateway: Gateway,
    settings: HttpSettings,
    *,
    stop_waiting: Callable[[], None],
    announce_end: Callable[[], None] = lambda: None,
    keepalive: timedelta | None = None,
    grace: timedelta = ON_THEIR_WAY,
) -> AsyncGenerator[int]:
    """Serve for the length of the block; yields the port.

    The end is announced, and `shutdown_delay` later no connection is accepted any more, and
    requests under way are finished: until the deadline is near, when `stop_waiting` has the rest
    answered as it stands.
    """
    runner = web.ServerRunner(
        Server(gateway, keepalive=keepalive or settings.keepalive_timeout),
        shutdown_timeout=SHUTDOWN_TIMEOUT,
    )
    await runner.setup()
    try:
        site = web.TCPSite(
            runner,
            settings.api_host,
            settings.port,
            backlog=BACKLOG,
            reuse_port=settings.reuse_port,
        )
        await site.start()
        yield site.port
        announce_end()
        await asyncio.sleep(settings.shutdown_delay.total_seconds())
        await site.stop()
        await _drain(gateway, settings.shutdown_deadline, stop_waiting, grace=grace)
    finally:
        await runner.cleanup()


async def _drain(
    gateway: Gateway, deadline: timedelta, stop_waiting: Callable[[], None], *, grace: timedelta
) -> None:
    loop = asyncio.get_running_loop()
    stopping = loop.call_later(deadline.total_seconds() / 2, stop_waiting)
    try:
        async with asyncio.timeout(deadline.total_seconds()):
            await gateway.drain(grace=grace)
    except TimeoutError:
        log.warning("http.cut_off")
    finally:
        stopping.cancel()


def _unreadable(error: BaseException | None, message: str | None) -> Problem:
    if isinstance(error, LineTooLong):
        return Problem("headers-too-large", "The request line or a header is too long")
    first_line = (message or "Bad request").splitlines()[0].rstrip(":")
    return Problem("malformed-request", first_line)
