"""Many leads, oldest first, without holding them in memory."""

import contextlib
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from shared.storage.lead_document import LEAD_JSON
from shared.storage.pool import Connection, Database

# Which leads: the one condition behind the list, its count and the export.
#
# The condition names every filter; those that are not given are NULL and drop out when the query
# is planned with its values at hand. So it runs in a `filtering` transaction: a plan made once for
# all values would read the whole table for most of them.

MOST_WORDS = 8
# The first parameter that `CONDITION` leaves to the query around it.
NEXT_PARAMETER = 20

_WORDS = " AND ".join(
    f"(${number}::text IS NULL OR search_text LIKE leads.folded(${number}))"
    for number in range(NEXT_PARAMETER - MOST_WORDS, NEXT_PARAMETER)
)
CONDITION = f"""
    ($1::text IS NULL OR email_key = $1)
    AND ($2::uuid IS NULL OR external_id = $2)
    AND ($3::text IS NULL OR status = $3)
    AND ($4::text IS NULL OR source = $4)
    AND ($5::text IS NULL OR leads.folded(country) = leads.folded($5))
    AND ($6::timestamptz IS NULL OR created_at >= $6)
    AND ($7::timestamptz IS NULL OR created_at < $7)
    AND ($8::timestamptz IS NULL OR updated_at >= $8)
    AND ($9::timestamptz IS NULL OR updated_at < $9)
    AND ($10::boolean IS NULL OR (summary IS NOT NULL) = $10)
    AND ($11::text IS NULL OR to_tsvector(
        'simple'::regconfig, regexp_replace(search_text, '[^[:alnum:]]+', ' ', 'g')
    ) @@ to_tsquery('simple'::regconfig, leads.folded($11)))
    AND {_WORDS}
"""

_PLAN_ANEW = "SET LOCAL plan_cache_mode = force_custom_plan"
_HAS_TRIGRAMS = "SELECT to_regclass('leads.lead_search_trigrams') IS NOT NULL"

# Trigrams are of letters and digits; from fewer than three in a row there are none inside a word.
_long_enough = re.compile(r"[^\W_]{3}").search
_parts = re.compile(r"[^\W_]+").findall


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadFilters:
    """What all leads to be found have in common; None leaves it open.

    `words` are NFKD and free of spaces, up to `MOST_WORDS`. Each is to be found in a name, the
    e-mail address, the city or the country: as any part of it, or as the beginning of a word when
    it is short or the database has no trigrams.
    """

    email_key: str | None = None
    external_id: UUID | None = None
    status: str | None = None
    source: str | None = None
    country: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    updated_after: datetime | None = None
    updated_before: datetime | None = None
    has_summary: bool | None = None
    words: tuple[str, ...] = ()


EVERYTHING = LeadFilters()


class FilteredLeads:
    """Prepares queries on `CONDITION`. Raises `UnavailableError` when PostgreSQL is down."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._has_trigrams: bool | None = None

    @contextlib.asynccontextmanager
    async def filtering(
        self, filters: LeadFilters
    ) -> AsyncGenerator[tuple[Connection, tuple[Any, ...]]]:
        """Lend a connection in a transaction, and the parameters of `CONDITION`."""
        async with self._database.transaction() as connection:
            await connection.execute(_PLAN_ANEW)
            if self._has_trigrams is None:
                self._has_trigrams = bool(await connection.fetchval(_HAS_TRIGRAMS))
            yield connection, parameters(filters, has_trigrams=self._has_trigrams)


def parameters(filters: LeadFilters, *, has_trigrams: bool) -> tuple[Any, ...]:
    """Return the parameters of `CONDITION`."""
    patterns = [_pattern(word) for word in filters.words] if has_trigrams else []
    beginnings = None if has_trigrams or not filters.words else _beginnings(filters.words)
    return (
        filters.email_key,
        filters.external_id,
        filters.status,
        filters.source,
        filters.country,
        filters.created_after,
        filters.created_before,
        filters.updated_after,
        filters.updated_before,
        filters.has_summary,
        beginnings,
        *patterns,
        *(None for _ in range(MOST_WORDS - len(patterns))),
    )


def _pattern(word: str) -> str:
    """Return the LIKE pattern of a word."""
    literal = re.sub(r"([\\%_])", r"\\\1", word)
    return f"%{literal}%" if _long_enough(word) else f"% {literal}%"


def _beginnings(words: tuple[str, ...]) -> str:
    """Return the tsquery of words that begin so."""
    parts = [part for word in words for part in _parts(word)]
    return " & ".join(f"'{part}':*" for part in parts)


# Rows fetched from the server at a time, and how long that may take.
PREFETCH = 1_000
FETCH_TIMEOUT = timedelta(minutes=2)

_SELECTED = f"""
    SELECT {LEAD_JSON} AS json FROM leads.lead WHERE {CONDITION} ORDER BY created_at, id
"""  # noqa: S608 (constants)
_NUMBER = "SELECT count(*) FROM leads.lead"


class LeadExport:
    """Raises `UnavailableError` when PostgreSQL is down."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._leads = FilteredLeads(database)

    async def number(self) -> int:
        """Return how many leads there are."""
        async with self._database.connection() as connection:
            seconds = FETCH_TIMEOUT.total_seconds()
            return int(await connection.fetchval(_NUMBER, timeout=seconds))

    async def batches(
        self, filters: LeadFilters = EVERYTHING, *, size: int = PREFETCH
    ) -> AsyncGenerator[list[bytes]]:
        """Yield the leads' JSON, up to `size` at a time, from one snapshot.

        The query ends with the generator: close it when there is nobody to read on.
        """
        seconds = FETCH_TIMEOUT.total_seconds()
        async with self._leads.filtering(filters) as (connection, parameters):
            cursor = await connection.cursor(_SELECTED, *parameters, timeout=seconds)
            while rows := await cursor.fetch(size, timeout=seconds):
                yield [row["json"].encode() for row in rows]

    async def documents(self) -> AsyncGenerator[bytes]:
        """Yield each lead's JSON, from one snapshot."""
        async with contextlib.aclosing(self.batches()) as batches:
            async for batch in batches:
                for document in batch:
                    yield document
