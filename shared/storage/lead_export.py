"""Which leads, by filters, and all of those in one go, without holding them in memory."""

import contextlib
import math
import re
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from shared.storage.pool import Connection, Database, fetch_batches
from shared.storage.search_sample import TextSample

# Rows fetched from the server at a time, and how long that may take.
PREFETCH = 1_000
FETCH_TIMEOUT = timedelta(minutes=2)

_NUMBER = "SELECT count(*) FROM leads.lead"

# Put together here, since PostgreSQL can take a set of conditions in no other way that is as fast:
# one statement with all of them takes longer to plan, and a function that holds them longer still,
# as it is parsed for each plan. Only the lines below get into a statement; values are parameters.
_EXPORT = """
    SELECT leads.lead_json(lead) AS json FROM leads.lead WHERE {conditions} ORDER BY created_at, id
"""
_CONDITIONS = {
    "ids": "id = ANY ({value})",
    "email_key": "email_key = {value}",
    "external_id": "external_id = {value}",
    "status": "status = {value}",
    "source": "source = {value}",
    "country": "leads.folded(country) = leads.folded({value})",
    "created_after": "created_at >= {value}",
    "created_before": "created_at < {value}",
    "updated_after": "updated_at >= {value}",
    "updated_before": "updated_at < {value}",
    "has_summary": "(summary IS NOT NULL) = {value}",
}
_HAS_PATTERN = "{text} LIKE leads.folded({value})"
# The same, and estimated as that is, but by no index.
_FITS_PATTERN = "({text} NOT LIKE leads.folded({value})) IS FALSE"
_HAS_BEGINNINGS = """
    to_tsvector('simple'::regconfig, regexp_replace({text}, '[^[:alnum:]]+', ' ', 'g'))
    @@ to_tsquery('simple'::regconfig, leads.folded({value}))
"""
# During an upgrade leads may have no text yet. By no index, then, but none is missed.
_TEXT = "search_text"
_TEXT_AS_YET = (
    "coalesce(search_text, leads.search_text(first_name, last_name, email, city, country))"
)

# A plan made once for all values would read the whole table for most of them.
_PLAN_ANEW = "SET LOCAL plan_cache_mode = force_custom_plan"
_SEARCHING = """
    SELECT has_trigrams OR NOT has_words AS by_parts, attnotnull AS is_filled,
           attnotnull AND (has_trigrams OR has_words) AS is_final
    FROM pg_attribute
    CROSS JOIN (
        SELECT to_regclass('leads.lead_search_trigrams') IS NOT NULL AS has_trigrams,
               to_regclass('leads.lead_search_words') IS NOT NULL AS has_words
    ) AS index
    WHERE attrelid = to_regclass('leads.lead') AND attname = 'search_text'
"""

_SAMPLE = """
    SELECT histogram_bounds::text::text[] FROM pg_stats
    WHERE schemaname = 'leads' AND tablename = 'lead' AND attname = 'search_text'
"""
SAMPLE_AGE = timedelta(minutes=10)

# Trigrams are of letters and digits; from fewer than three in a row there are none inside a word.
_long_enough = re.compile(r"[^\W_]{3}").search
_parts = re.compile(r"[^\W_]+").findall


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadFilters:
    """What all leads to be found have in common; None leaves it open. Each has one of the `ids`.

    `words` are NFKD and free of spaces. Each is to be found in a name, the e-mail address, the
    city or the country: as any part of it, or as the beginning of a word when it is short or the
    database has no trigrams.
    """

    ids: tuple[UUID, ...] | None = None
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


@dataclass(frozen=True, slots=True)
class Selection:
    """A connection to ask for leads, what is to stand after WHERE, and its parameters."""

    connection: Connection
    conditions: str
    parameters: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Searching:
    """Whether parts of words are looked for, each lead has its text, and that stays so."""

    by_parts: bool
    is_filled: bool
    is_final: bool


async def _searching(connection: Connection) -> Searching:
    row = await connection.fetchrow(_SEARCHING)
    return Searching(*row) if row else Searching(by_parts=True, is_filled=False, is_final=False)


class FilteredLeads:
    """Prepares queries for the leads that filters leave."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._searching: Searching | None = None
        self._sample = TextSample()
        self._sampled = -math.inf

    @contextlib.asynccontextmanager
    async def filtering(
        self, filters: LeadFilters, *, first_parameter: int = 1
    ) -> AsyncGenerator[Selection]:
        """Lend a connection in a transaction that plans with the values at hand.

        The parameters are numbered from `first_parameter`.
        """
        async with self._database.transaction(setting=_PLAN_ANEW) as connection:
            searching = self._searching or await _searching(connection)
            if searching.is_final:
                self._searching = searching
            is_by_trigrams = searching.by_parts and filters.words
            sample = await self._fresh_sample(connection) if is_by_trigrams else self._sample
            given = list(_given(filters, by_parts=searching.by_parts, sample=sample))
            text = _TEXT if searching.is_filled else _TEXT_AS_YET
            conditions = [
                condition.format(value=f"${number}", text=text)
                for number, (condition, _) in enumerate(given, start=first_parameter)
            ]
            yield Selection(
                connection, " AND ".join(conditions) or "true", tuple(value for _, value in given)
            )

    async def _fresh_sample(self, connection: Connection) -> TextSample:
        """Return texts of leads as PostgreSQL's statistics have them."""
        now = time.monotonic()
        if now - self._sampled > SAMPLE_AGE.total_seconds():
            self._sample = TextSample(await connection.fetchval(_SAMPLE) or ())
            self._sampled = now
        return self._sample


class LeadExport:
    """Leads oldest first."""

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

        The query ends with the generator: close it when the rest is not wanted.
        """
        async with self._leads.filtering(filters) as leads:
            query = _EXPORT.format(conditions=leads.conditions)
            batches = fetch_batches(
                leads.connection, query, *leads.parameters, size=size, within=FETCH_TIMEOUT
            )
            async with contextlib.aclosing(batches):
                async for rows in batches:
                    yield [row["json"].encode() for row in rows]

    async def documents(self) -> AsyncGenerator[bytes]:
        """Yield each lead's JSON, from one snapshot."""
        async with contextlib.aclosing(self.batches()) as batches:
            async for batch in batches:
                for document in batch:
                    yield document


def _given(
    filters: LeadFilters, *, by_parts: bool, sample: TextSample
) -> Iterator[tuple[str, Any]]:
    """Yield a condition for each filter that is given, and its value."""
    for name, condition in _CONDITIONS.items():
        value = getattr(filters, name)
        if value is not None:
            yield condition, value
    if by_parts:
        yield from _has_words(filters.words, sample)
    elif filters.words:
        yield _HAS_BEGINNINGS, _beginnings(filters.words)


def _has_words(words: tuple[str, ...], sample: TextSample) -> Iterator[tuple[str, str]]:
    """Yield the conditions on words: by the index only what few leads have, if there is such."""
    rare = {word: sample.rare_parts(word) for word in words}
    is_any_rare = any(rare.values())
    for word in words:
        for part in rare[word]:
            yield _HAS_PATTERN, f"%{part}%"
        if rare[word] != (word,):
            yield _FITS_PATTERN if is_any_rare else _HAS_PATTERN, _pattern(word)


def _pattern(word: str) -> str:
    """Return the LIKE pattern of a word."""
    literal = re.sub(r"([\\%_])", r"\\\1", word)
    return f"%{literal}%" if _long_enough(word) else f"% {literal}%"


def _beginnings(words: tuple[str, ...]) -> str:
    """Return the tsquery of words that begin so."""
    parts = [part for word in words for part in _parts(word)]
    return " & ".join(f"'{part}':*" for part in parts)
