"""Server-Sent Events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from collections.abc import AsyncGenerator

from aiohttp import hdrs

from services.api.streaming import StreamedResponse, streamed

MEDIA_TYPE = "text/event-stream"
HEARTBEAT = b": heartbeat\n\n"

_HEADERS = {
    hdrs.CACHE_CONTROL: "no-store",
    # Proxies that gather an answer before they pass it on would hold the events back.
    "X-Accel-Buffering": "no",
}


def message(event: str, data: bytes, *, entry_id: str | None = None) -> bytes:
    """Return one event; `data` is JSON in a single line."""
    identity = b"" if entry_id is None else f"id: {entry_id}\n".encode()
    return b"%bevent: %b\ndata: %b\n\n" % (identity, event.encode(), data)


async def event_stream(messages: AsyncGenerator[bytes]) -> StreamedResponse:
    """Answer with events as they come."""
    return await streamed(messages, content_type=MEDIA_TYPE, headers=_HEADERS)
