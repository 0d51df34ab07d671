"""Responses and the headers they all carry."""

import asyncio
import time
import zlib
from collections.abc import Iterable, Mapping
from email.utils import formatdate
from functools import cache, lru_cache
from http import HTTPStatus
from typing import Any, Self

import orjson
from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Representation(BaseModel):
    """What answers are made of, and described by: camelCase names.

    Clients must expect members that are not here: they may come with time.
    """

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )

    @classmethod
    def of(cls, source: object) -> Self:
        """Return the representation of an object that has attributes of the same names."""
        return cls.model_validate(source, from_attributes=True)

    def to_body(self, *, exclude_unset: bool = False) -> bytes:
        """Return the JSON of an answer; with `exclude_unset` only the members that were given."""
        return orjson.dumps(self.model_dump(by_alias=True, exclude_unset=exclude_unset))


def list_body(representations: Iterable[Representation]) -> bytes:
    """Return the JSON of an answer that is an array."""
    return orjson.dumps([one.model_dump(by_alias=True) for one in representations])


def with_example(**example: Any) -> ConfigDict:
    """Return the configuration of a representation that shows an example."""
    return ConfigDict(json_schema_extra={"examples": [example]})


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

# Shorter bodies fit into a packet or two as they are.
WORTH_COMPRESSING = 4 * 1024
# To compress more would keep other requests waiting for more than a millisecond.
LONG_WORK = 64 * 1024
FASTEST = 1
# The format that is called so in HTTP (zlib's `wbits`).
GZIP = 31


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

    @property
    def is_long(self) -> bool:
        """Whether it is worth compressing. One with a tag has its own encodings, or is short."""
        return (
            self._content is not None
            and len(self._content) >= WORTH_COMPRESSING
            and hdrs.ETAG not in self.headers
        )

    async def compress(self, *, is_accepted: bool) -> None:
        """Compress the body, unless the client does not accept that."""
        self.headers[hdrs.VARY] = hdrs.ACCEPT_ENCODING
        if not is_accepted or self._content is None:
            return
        self.headers[hdrs.CONTENT_ENCODING] = "gzip"
        if len(self._content) < LONG_WORK:
            self._content = _gzipped(self._content)
        else:
            self._content = await asyncio.to_thread(_gzipped, self._content)

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


def _gzipped(content: bytes) -> bytes:
    return zlib.compress(content, FASTEST, GZIP)


@cache
def _status_line(status: int) -> str:
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"


@lru_cache(maxsize=1)
def _http_date(second: int) -> str:
    return formatdate(second, usegmt=True)
