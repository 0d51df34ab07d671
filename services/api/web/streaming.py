"""Answers that are written as they come about: exports and event streams."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import timedelta
from typing import TypeAlias

import structlog
from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

from services.api.web.endpoint import Header
from services.api.web.responses import NO_STORE, SECURITY_HEADERS
from shared.domain.errors import TransientError

log = structlog.get_logger(__name__)

# A client has to take so many bytes a second on average, with so long to spare. For half a minute
# to pass without anything taken proves nothing: the buffers between here and a slow reader hold
# megabytes, and make room in as large pieces.
SLOWEST = 10_000
TO_SPARE = timedelta(seconds=30)

# Server-Sent Events (https://html.spec.whatwg.org/multipage/server-sent-events.html).
EVENT_STREAM = "text/event-stream"
HEARTBEAT = b": heartbeat\n\n"

BUFFERING = Header(
    name="X-Accel-Buffering",
    description="Asks proxies to pass events on as they come",
    example="no",
    is_required=False,
)
EVENT_STREAM_HEADERS = {
    **NO_STORE,
    # Proxies that gather an answer before they pass it on would hold the events back.
    BUFFERING.name: "no",
}


# Takes a connection, and the headers of the answer that has begun on it.
OnOpen: TypeAlias = Callable[[asyncio.WriteTransport, Mapping[str, str]], None]


async def streamed(
    chunks: AsyncGenerator[bytes],
    *,
    content_type: str,
    headers: Mapping[str, str],
    on_open: OnOpen | None = None,
) -> "StreamedResponse":
    """Answer with what `chunks` yields.

    The first one is waited for, so that what fails before it is answered as a problem.
    """
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(chunks.aclose)
        first = await anext(chunks, b"")
        stack.pop_all()
    return StreamedResponse(
        first,
        chunks,
        headers={**SECURITY_HEADERS, hdrs.CONTENT_TYPE: content_type, **headers},
        on_open=on_open,
    )


async def event_stream(
    messages: AsyncGenerator[bytes], *, on_open: OnOpen | None = None
) -> "StreamedResponse":
    """Answer with events as they come, each made by `message`.

    Who takes the connection by `on_open` may write to it while `messages` yields nothing.
    """
    return await streamed(
        messages, content_type=EVENT_STREAM, headers=EVENT_STREAM_HEADERS, on_open=on_open
    )


def message(event: str, data: bytes, *, entry_id: str | None = None) -> bytes:
    """Return one event; `data` is JSON in a single line."""
    identity = b"" if entry_id is None else f"id: {entry_id}\n".encode()
    return b"%bevent: %b\ndata: %b\n\n" % (identity, event.encode(), data)


class StreamedResponse(web.StreamResponse):
    """A response whose body is being made. Use `streamed` to begin one.

    The body begins once the gateway is through with the response, and takes its time. When it
    breaks off, so does the connection: clients see that the last chunk is missing.
    """

    def __init__(
        self,
        first: bytes,
        rest: AsyncGenerator[bytes],
        *,
        headers: Mapping[str, str],
        slowest: int = SLOWEST,
        to_spare: timedelta = TO_SPARE,
        on_open: OnOpen | None = None,
    ) -> None:
        super().__init__(headers=headers)
        self._on_open = on_open
        self._slowest = slowest
        self._seconds_to_spare = to_spare.total_seconds()
        self.on_end: Callable[[], None] | None = None
        self.is_empty = not first
        self._first = first
        self._rest = rest

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send status and headers."""
        try:
            writer = await super().prepare(request)
        except BaseException:
            await self._end()
            raise
        if self._on_open is not None and request.transport is not None:
            self._on_open(request.transport, self.headers)
        return writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Send the body."""
        try:
            if not self._must_be_empty_body:
                await self._send()
            await super().write_eof(data)
        finally:
            await self._end()

    async def _send(self) -> None:
        try:
            await self._write(self._first)
            async for chunk in self._rest:
                await self._write(chunk)
        except (TransientError, TimeoutError) as error:
            log.warning("http.broken_off", error=str(error) or "the client is too slow")
            self.force_close()
            raise ConnectionError("The answer broke off") from error

    async def _write(self, chunk: bytes) -> None:
        clock = asyncio.get_running_loop().time
        self._seconds_to_spare += len(chunk) / self._slowest
        started = clock()
        async with asyncio.timeout(self._seconds_to_spare):
            await self.write(chunk)
        self._seconds_to_spare -= clock() - started

    async def _end(self) -> None:
        try:
            await self._rest.aclose()
        finally:
            if self.on_end is not None:
                self.on_end()
                self.on_end = None
