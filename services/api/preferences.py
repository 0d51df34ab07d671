"""The Prefer header (RFC 7240)."""

from aiohttp import web


def prefers_async(request: web.BaseRequest) -> bool:
    """Whether the client would rather not wait for the outcome."""
    preferences = ",".join(request.headers.getall("Prefer", ())).lower().split(",")
    return any(preference.strip() == "respond-async" for preference in preferences)
