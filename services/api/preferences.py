"""What a client would rather have: the headers Prefer (RFC 7240) and Accept."""

from aiohttp import web


def prefers_async(request: web.BaseRequest) -> bool:
    """Whether the client would rather not wait for the outcome."""
    preferences = ",".join(request.headers.getall("Prefer", ())).lower().split(",")
    return any(preference.strip() == "respond-async" for preference in preferences)


def accepts_events(request: web.BaseRequest) -> bool:
    """Whether the client asks for an event stream by name."""
    ranges = ",".join(request.headers.getall("Accept", ())).lower().split(",")
    return any(one.partition(";")[0].strip() == "text/event-stream" for one in ranges)
