"""The client that asks the auth server: whatever ends a connection is an error of httpx."""

from datetime import timedelta

import httpx

from shared.lifecycle import absent
from shared.observability.metrics import HTTP_CLIENT_SECONDS


class _Transport(httpx.AsyncHTTPTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        with HTTP_CLIENT_SECONDS.labels(request.url.host).time():
            try:
                return await super().handle_async_request(request)
            except httpx.TransportError:
                raise
            # Of a connection that is reset at once the library asks a socket that is gone, which is
            # an AttributeError of its own.
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                raise httpx.ConnectError(reason, request=request) from error


def open_client(*, timeout: timedelta) -> httpx.AsyncClient:
    """Return a client whose requests raise `httpx.TransportError` for all that keeps them from it.

    Each step of a request takes `timeout` at the most.
    """
    # It imports HTTP/2 where it is installed, as supabase has it, and is not asked for it.
    with absent("h2"):
        transport = _Transport()
    return httpx.AsyncClient(timeout=timeout.total_seconds(), transport=transport)
