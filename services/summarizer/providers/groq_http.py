"""The HTTP client that Groq's library is given: aiohttp, with none of httpx' own work around it.

httpx' client merges addresses, headers and cookies, encodes, measures and walks through redirects,
for every call anew, and that takes longer than to send and receive it. See docs/decisions/0014.
"""

import contextlib
from collections.abc import AsyncGenerator
from typing import Any, cast
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from multidict import CIMultiDict
from yarl import URL

# What an error's response would otherwise undo once more.
_UNDONE = {b"content-encoding", b"content-length", b"transfer-encoding"}


class _Request(httpx.Request):
    """What is to be sent: always a POST of bytes. Without a look at all else that it could be."""

    def __init__(self, url: httpx.URL, headers: httpx.Headers, body: bytes, timeout: float) -> None:
        self.method = "POST"
        self.url = url
        self.headers = headers
        self.extensions = {}
        self.body = body
        self.timeout = timeout


class _Answer(httpx.Response):
    """An answer whose body is there, and of which nothing else is read."""

    def __init__(self, status: int, body: bytes, request: httpx.Request) -> None:
        super().__init__(status, request=request, stream=_NOTHING)
        self._content = body


_NOTHING = httpx.ByteStream(b"")


class GroqHttpClient(httpx.AsyncClient):
    """Sends to the one address, with headers that stay as they are. Use through `open_http`."""

    def __init__(self, session: aiohttp.ClientSession, url: httpx.URL) -> None:
        super().__init__(transport=httpx.AsyncBaseTransport(), trust_env=False)
        self._session = session
        self._address = URL(str(url))
        self._fixed: CIMultiDict[str] | None = None

    def build_request(self, method: str, url: Any, **given: Any) -> httpx.Request:
        """Return what Groq's library asks for, as it is."""
        del method  # one is enough
        return _Request(url, given["headers"], given["content"], given["timeout"])

    async def send(self, request: httpx.Request, **_: Any) -> httpx.Response:
        """Send a request of `build_request`; raises `httpx.ReadTimeout`, or aiohttp's errors."""
        if self._fixed is None:
            self._fixed = CIMultiDict(request.headers.items())
        asked = cast("_Request", request)
        try:
            async with self._session.post(
                self._address,
                data=asked.body,
                headers=self._fixed,
                # The key goes where it was sent, and no further.
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=asked.timeout),
            ) as response:
                body = await response.read()
        except TimeoutError as error:
            raise httpx.ReadTimeout("no answer in time") from error
        if response.ok:
            return _Answer(response.status, body, request)
        headers = [one for one in response.raw_headers if one[0].lower() not in _UNDONE]
        return httpx.Response(response.status, headers=headers, content=body, request=request)


@contextlib.asynccontextmanager
async def open_http(url: httpx.URL, *, connections: int) -> AsyncGenerator[GroqHttpClient]:
    """Open a client that sends to `url`, by `connections` at the same time."""
    connector = aiohttp.TCPConnector(limit=connections, ssl=httpx.create_ssl_context())
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        proxy=_proxy(url),
    ) as session:
        yield GroqHttpClient(session, url)


def _proxy(url: httpx.URL) -> str | None:
    """Return the proxy that the environment names for an address."""
    if proxy_bypass(url.host):
        return None
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"
