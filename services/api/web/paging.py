"""Pages of a list: their size, the cursor at which one starts, and the link to the next.

A cursor belongs to one list: the same path, order and filters. With others it would lead to an
arbitrary place, so there it is refused.
"""

import base64
import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

from aiohttp import web
from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from services.api.storage.pages import PageRow, Position
from services.api.web.endpoint import Header
from services.api.web.problems import Problem, validation_problem
from services.api.web.query import Query
from services.api.web.responses import WholeResponse, json_response

DEFAULT_LIMIT = 100
MOST = 500

NEXT_PAGE = Header(
    name="Link",
    description='The next page, as `<address>; rel="next"` (RFC 8288)',
    example='</leads?after=AAZEv...>; rel="next"',
    is_required=False,
)

NOTHING: Mapping[str, str] = MappingProxyType({})

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DIGEST_SIZE = 8
_head = struct.Struct(f">{_DIGEST_SIZE}s16s")
_time = struct.Struct(">q")
_seen = struct.Struct(">q")


def _whole_number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value.isascii() and value.isdigit() and len(value) <= len(str(MOST)):
        limit = int(value)
        if 1 <= limit <= MOST:
            return limit
    raise PydanticCustomError("limit", "Must be a whole number from 1 to {most}", {"most": MOST})


PageLimit = Annotated[int, Field(ge=1, le=MOST), BeforeValidator(_whole_number)]


class PageQuery(Query):
    """Which page: how many rows to it, and the cursor it begins at."""

    limit: Annotated[PageLimit, Field(description="How many to a page")] = DEFAULT_LIMIT
    after: Annotated[
        str | None,
        Field(description="Where the page begins: a cursor out of a `Link` header"),
    ] = None

    def position(self, *, scope: str, by_time: bool = True) -> Position | None:
        """Return the position after which the page begins; raises `Problem` 400."""
        if self.after is None:
            return None
        return decode_cursor(self.after, scope=scope, by_time=by_time)


def list_response(
    request: web.BaseRequest,
    rows: Sequence[PageRow],
    *,
    limit: int,
    scope: str,
    seen: int | None = None,
) -> WholeResponse:
    """Answer with the first `limit` rows of the list that `scope` names, like `page_response`.

    The next page is read where all is known that was `seen`.
    """
    page = rows[:limit]
    has_more = len(rows) > limit
    return page_response(
        request,
        b",".join(row.json for row in page),
        cursor=encode_cursor(replace(page[-1].position, seen=seen), scope=scope)
        if has_more
        else None,
    )


def page_response(
    request: web.BaseRequest,
    rows: bytes,
    *,
    cursor: str | None,
    total: int | None = None,
    next_parameters: Mapping[str, str] = NOTHING,
) -> WholeResponse:
    """Answer with an array of rows, which have commas between them.

    When there are more, `Link` leads to the page at `cursor`, with all the parameters of this one
    but for `next_parameters`. A limit that the API is set to may be greater than clients may ask
    for: it is not among them.
    """
    headers: dict[str, str] = {}
    if cursor is not None:
        changed = {**next_parameters, "after": cursor}
        kept = [(name, value) for name, value in request.query.items() if name not in changed]
        parameters = [*kept, *changed.items()]
        headers["Link"] = f'<{request.rel_url.raw_path}?{urlencode(parameters)}>; rel="next"'
    if total is not None:
        headers["X-Total-Count"] = str(total)
    return json_response(b"[%b]" % rows, headers=headers)


def encode_cursor(position: Position, *, scope: str) -> str:
    """Return the cursor of the page after a position in the list that `scope` names."""
    key = position.key
    packed = key.encode() if isinstance(key, str) else _time.pack((key - _EPOCH) // _MICROSECOND)
    head = _head.pack(_digest(scope, has_seen=position.seen is not None), position.id.bytes)
    if position.seen is not None:
        head += _seen.pack(position.seen)
    return base64.urlsafe_b64encode(head + packed).decode().rstrip("=")


def decode_cursor(cursor: str, *, scope: str, by_time: bool = True) -> Position:
    """Return the position that a cursor names; raises `Problem` 400."""
    seen: int | None = None
    try:
        packed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        digest, row_id = _head.unpack_from(packed)
        packed = packed[_head.size :]
        if digest == _digest(scope, has_seen=True):
            (seen,) = _seen.unpack_from(packed)
            packed = packed[_seen.size :]
        key = _time_key(packed) if by_time else packed.decode()
    except (ValueError, struct.error, OverflowError):
        # A cursor of another order may well not be readable in this one.
        raise _not_a_cursor() from None
    position = Position(key, UUID(bytes=row_id), seen)
    if seen is None and digest != _digest(scope):
        raise validation_problem({"after": "Belongs to a list with other parameters"})
    # Decoding is lenient about what it skips; a cursor has one spelling.
    if encode_cursor(position, scope=scope) != cursor or "\0" in str(key):
        raise _not_a_cursor()
    return position


def _time_key(packed: bytes) -> datetime:
    micros: int = _time.unpack(packed)[0]
    return _EPOCH + micros * _MICROSECOND


def _digest(scope: str, *, has_seen: bool = False) -> bytes:
    named = f"{scope} seen" if has_seen else scope
    return hashlib.sha256(named.encode()).digest()[:_DIGEST_SIZE]


def _not_a_cursor() -> Problem:
    return validation_problem({"after": "Is not a cursor from a Link header"})
