"""Pages of a list: their rows, and the positions at which pages begin."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg


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


def page_rows(records: Iterable[asyncpg.Record]) -> list[PageRow]:
    """Make rows of records of `key`, `id` and `json`."""
    return [
        PageRow(Position(record["key"], record["id"]), record["json"].encode())
        for record in records
    ]
