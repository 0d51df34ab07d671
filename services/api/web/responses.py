"""Responses and the headers they all carry."""

import asyncio
import re
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
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        # Most are never made, or only described.
        defer_build=True,
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


class CommonHeaders:
    """Headers that many answers have in common, with their lines as they are sent."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers
        # By the names of the answer's own headers, of which there are only so many.
        self._lines: dict[tuple[str, ...], str] = {}

    def lines(self, own: "CIMultiDict[str] | None") -> str:
        """Return the lines of an answer that has these headers of its own, which come first."""
        names = () if own is None else tuple(own)
        lines = self._lines.get(names)
        if lines is None:
            rest = {name: value for name, value in self._headers.items() if name not in (own or ())}
            lines = self._lines[names] = _lines(CIMultiDict(rest))
        return lines


NONE_IN_COMMON = CommonHeaders({})
JSON_HEADERS = CommonHeaders(
    {
        **SECURITY_HEADERS,
        "Content-Type": "application/json; charset=utf-8",
        # Personal data: browsers may keep it, and must ask whether it is still current.
        "Cache-Control": "private, no-cache",
    }
)
PROBLEM_HEADERS = CommonHeaders(
    {**SECURITY_HEADERS, "Content-Type": "application/problem+json", **NO_STORE}
)

# Shorter bodies fit into a packet or two as they are.
WORTH_COMPRESSING = 4 * 1024
# To compress more would keep other requests waiting for more than a millisecond.
LONG_WORK = 64 * 1024
FASTEST = 1
# The format that is called so in HTTP (zlib's `wbits`).
GZIP = 31

# What no header may have.
_has_control = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]").search


class WholeResponse(web.StreamResponse):
    """A response that is complete from the start; no body is None.

    `web.Response` works out encoding, length, cookies, compression and chunking anew for each
    answer, which takes longer than to find a cached lead. Here nothing is open but the length, and
    most headers are sent as they were once written. `headers` are the response's own; the two that
    a cached lead has are kept beside them: `version`, which is its ETag, and `request_id`.
    """

    def __init__(
        self,
        body: bytes | None,
        *,
        status: int,
        headers: "CIMultiDict[str] | None" = None,
        common: CommonHeaders = NONE_IN_COMMON,
        version: int | None = None,
    ) -> None:
        # Not the base's: that copies headers, and makes room for what has no use here.
        self._status = status
        self._own: CIMultiDict[str] | None = headers
        self._common = common
        self._content = body
        self._version = version
        self._keeps_alive = True
        self._head = b""
        self._transport: asyncio.Transport | None = None
        self._writer: AbstractStreamWriter | None = None
        self.request_id = ""

    @property
    def headers(self) -> "CIMultiDict[str]":
        """The response's own headers but its ETag and X-Request-Id."""
        if self._own is None:
            self._own = CIMultiDict[str]()
        return self._own

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
            and self._version is None
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
        """Write status and headers down; they leave together with the body."""
        if not request.keep_alive or request.version < HttpVersion11:
            self._keeps_alive = False
        if not self._keeps_alive:
            self.headers[hdrs.CONNECTION] = "close"
        tag = "" if self._version is None else f'Etag: "{self._version}"\r\n'
        own = "" if self._own is None else _lines(self._own)
        length = "" if self._content is None else f"Content-Length: {len(self._content)}\r\n"
        self._head = (
            f"{_status_line(self._status)}{tag}X-Request-Id: {self.request_id}\r\n"
            f"{own}{length}{_date_line(int(time.time()))}{self._common.lines(self._own)}\r\n"
        ).encode()
        if request.method == hdrs.METH_HEAD:
            self._content = None
        self._writer = request.writer
        self._transport = request.transport
        return self._writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Send everything.

        Not by the request's writer: what that keeps count of, and whether it compresses and
        divides, is settled here.
        """
        transport, writer = self._transport, self._writer
        if writer is None:
            return
        if transport is None or transport.is_closing():
            raise ConnectionResetError("The client has gone")
        transport.write(self._head + (data or self._content or b""))
        await writer.drain()


def json_response(
    body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> WholeResponse:
    """Answer with JSON bytes."""
    return WholeResponse(
        body, status=status, headers=CIMultiDict(headers or ()), common=JSON_HEADERS
    )


def lead_response(json: bytes, *, version: int, status: int = 200) -> WholeResponse:
    """Answer with a lead; its version is the ETag."""
    return WholeResponse(json, status=status, common=JSON_HEADERS, version=version)


def not_modified(*, version: int) -> WholeResponse:
    """Answer that the client's copy of a lead is current."""
    return WholeResponse(None, status=304, common=JSON_HEADERS, version=version)


def empty_response(status: int, *, headers: Mapping[str, str]) -> WholeResponse:
    """Answer without a body: 204, or another status that has none."""
    return WholeResponse(None, status=status, headers=CIMultiDict({**SECURITY_HEADERS, **headers}))


def _gzipped(content: bytes) -> bytes:
    return zlib.compress(content, FASTEST, GZIP)


def _lines(headers: "CIMultiDict[str]") -> str:
    """Return headers as they are sent; raises `ValueError` for a value of more than one line."""
    lines = ""
    for name, value in headers.items():
        if not value.isprintable() and _has_control(value):
            raise ValueError("A header has control characters")
        lines += f"{name}: {value}\r\n"
    return lines


@cache
def _status_line(status: int) -> str:
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"


@lru_cache(maxsize=1)
def _date_line(second: int) -> str:
    return f"Date: {formatdate(second, usegmt=True)}\r\n"
