"""The query of a list: its page size and the cursor at which the page starts."""

import base64
import struct
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from multidict import MultiMapping

from services.api.problems import validation_problem
from shared.storage.lead_repository import PagePosition

DEFAULT_LIMIT = 100
MOST = 500

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_layout = struct.Struct(">q16s")


@dataclass(frozen=True, slots=True)
class PageQuery:
    """How many leads, and behind which one."""

    limit: int
    after: PagePosition | None


def parse_page_query(query: MultiMapping[str]) -> PageQuery:
    """Read `limit` and `after`; raises `Problem` 400 for anything else."""
    refuse_unknown(query, known=("limit", "after"))
    cursor = query.get("after")
    return PageQuery(
        limit=_limit(query.get("limit", str(DEFAULT_LIMIT))),
        after=None if cursor is None else decode_cursor(cursor),
    )


def refuse_unknown(query: MultiMapping[str], *, known: Collection[str]) -> None:
    """Raise `Problem` 400 for parameters that would be ignored, or that come twice."""
    errors = {name: "Is not a parameter of this address" for name in query if name not in known}
    errors |= {name: "May be given once" for name in known if len(query.getall(name, [])) > 1}
    if errors:
        raise validation_problem(errors)


def encode_cursor(position: PagePosition) -> str:
    """Return the cursor of the page behind this lead."""
    micros = (position.created_at - _EPOCH) // _MICROSECOND
    packed = _layout.pack(micros, position.id.bytes)
    return base64.urlsafe_b64encode(packed).decode()


def decode_cursor(cursor: str) -> PagePosition:
    """Return the lead that a cursor names; raises `Problem` 400."""
    try:
        micros, key = _layout.unpack(base64.urlsafe_b64decode(cursor))
        position = PagePosition(_EPOCH + micros * _MICROSECOND, UUID(bytes=key))
    except (ValueError, struct.error, OverflowError):
        position = None
    # Decoding is lenient about what it skips; a cursor has one spelling.
    if position is None or encode_cursor(position) != cursor:
        raise validation_problem({"after": "Is not a cursor from a Link header"})
    return position


def _limit(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= len(str(MOST)):
        limit = int(text)
        if 1 <= limit <= MOST:
            return limit
    raise validation_problem({"limit": f"Must be a whole number from 1 to {MOST}"})
