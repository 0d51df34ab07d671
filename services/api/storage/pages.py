"""Pages of a list: their rows, and the positions at which pages begin."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from shared.storage.pool import Connection


@dataclass(frozen=True, slots=True)
class Position:
    """A row's place in an order: what it is sorted by, and the id that decides between equals.

    `seen` is the place in the log of PostgreSQL at which the list was read (`replica`), if that
    matters.
    """

    key: datetime | str
    id: UUID
    seen: int | None = None


@dataclass(frozen=True, slots=True)
class PageRow:
    """A row of a page as clients see it; `json` is UTF-8 bytes."""

    position: Position
    json: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """A page's rows as clients see them, and after which position another one begins, if any."""

    rows: Sequence[str]
    next_after: Position | None


# Gathered by PostgreSQL, a page is one row to the driver, which takes a third of its time for it.
# `$1` is how many rows there are to a page: the inner query finds one more, in their order.
_PAGE_OF = """
    SELECT array_agg(json) AS rows, (array_agg(key))[$1::integer] AS key,
           (array_agg(id))[$1::integer] AS id
    FROM ({rows}) AS found
"""


async def fetch_page(connection: Connection, rows: str, limit: int, *parameters: object) -> Page:
    """Return the first `limit` rows of a query of `key`, `id` and `json` that finds one more."""
    record = await connection.fetchrow(_PAGE_OF.format(rows=rows), limit, *parameters)
    found: list[str] = [] if record is None else record["rows"] or []
    if record is None or len(found) <= limit:
        return Page(found, None)
    return Page(found[:limit], Position(record["key"], record["id"]))


def page_rows(records: Iterable[asyncpg.Record]) -> list[PageRow]:
    """Make rows of records of `key`, `id` and `json`."""
    return [
        PageRow(Position(record["key"], record["id"]), record["json"].encode())
        for record in records
    ]
