"""Responses and the headers they all carry."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import timedelta
from email.utils import formatdate
from functools import cache, lru_cache
from http import HTTPStatus
from typing import Any, cast

import orjson
from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict
from pydantic.alias_generators import to_camel

SECURITY_HEADERS: Mapping[str, str] = {
    "Server": "leads",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Strict-Transport-Security": "max-age=63072000; includeSubDomains",
}
NO_STORE: Mapping[str, str] = {"Cache-Control": "no-store"}
JSON_HEADERS = CIMultiDict(
    {
        **SECURITY_HEADERS,
        "Content-Type": "application/json; charset=utf-8",
        # Personal data: browsers may keep it, and must ask whether it is still current.
        "Cache-Control": "private, no-cache",
    }
)
PROBLEM_HEADERS = CIMultiDict(
    {**SECURITY_HEADERS, "Content-Type": "application/problem+json", **NO_STORE}
)


class WholeResponse(web.StreamResponse):
    """A response that is complete from the start; no body is None.

    `web.Response` works out encoding, length, cookies, compression and chunking anew for each
    answer, which takes longer than to find a cached lead. Here nothing is open but the length.
    """

    def __init__(self, body: bytes | None, *, status: int, headers: "CIMultiDict[str]") -> None:
        super().__init__(status=status, headers=headers)
        self._content = body
        self._keeps_alive = True
        self._writer: AbstractStreamWriter | None = None

    @property
    def keep_alive(self) -> bool:
        """Whether the connection serves another request."""
        return self._keeps_alive

    def force_close(self) -> None:
        """Close the connection after this response."""
        self._keeps_alive = False

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Queue status and headers; they leave together with the body."""
        headers = self.headers
        if self._content is not None:
            headers[hdrs.CONTENT_LENGTH] = str(len(self._content))
        headers[hdrs.DATE] = _http_date(int(time.time()))
        if not request.keep_alive or request.version < HttpVersion11:
            self._keeps_alive = False
        if not self._keeps_alive:
            headers[hdrs.CONNECTION] = "close"
        if request.method == hdrs.METH_HEAD:
            self._content = None
        self._writer = request.writer
        await self._writer.write_headers(_status_line(self.status), headers)
        return self._writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Send everything."""
        if self._writer is not None:
            await self._writer.write_eof(data or self._content or b"")


def json_response(
    body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> WholeResponse:
    """Answer with JSON bytes."""
    response = WholeResponse(body, status=status, headers=JSON_HEADERS)
    if headers:
        response.headers.update(headers)
    return response


def lead_response(json: bytes, *, version: int, status: int = 200) -> WholeResponse:
    """Answer with a lead; its version is the ETag."""
    response = WholeResponse(json, status=status, headers=JSON_HEADERS)
    response.headers[hdrs.ETAG] = f'"{version}"'
    return response


def not_modified(*, version: int) -> WholeResponse:
    """Answer that the client's copy of a lead is current."""
    response = WholeResponse(None, status=304, headers=JSON_HEADERS)
    response.headers[hdrs.ETAG] = f'"{version}"'
    return response


def empty_response(status: int, *, headers: Mapping[str, str]) -> WholeResponse:
    """Answer without a body: 204, or another status that has none."""
    return WholeResponse(None, status=status, headers=CIMultiDict({**SECURITY_HEADERS, **headers}))


def json_body(value: Any) -> bytes:
    """Return a value as JSON: dataclasses, and what they and plain containers hold.

    Names are in camelCase, time spans in seconds.
    """
    return orjson.dumps(json_value(value))


def json_value(value: Any) -> Any:
    """Return a value in terms that JSON has. Keys of mappings are data, and stay as they are."""
    if isinstance(value, timedelta):
        return round(value.total_seconds(), 3)
    if is_dataclass(value):
        return {to_camel(one.name): json_value(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {str(key): json_value(item) for key, item in items}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in cast("Sequence[object]", value)]
    return value


@cache
def _status_line(status: int) -> str:
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"


@lru_cache(maxsize=1)
def _http_date(second: int) -> str:
    return formatdate(second, usegmt=True)
