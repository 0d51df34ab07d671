"""`/leads` and `/leads/export`: the leads that filters leave, page by page or in one file."""

import asyncio
import contextlib
import re
import unicodedata
from codecs import BOM_UTF8
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal, Self
from uuid import UUID

from aiohttp import web
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from services.api.handlers.leads import Lead
from services.api.server.routing import Call
from services.api.storage.lead_search import LeadSearch, LeadSort
from services.api.storage.pages import Page
from services.api.storage.replica import Reads, Settled
from services.api.web.endpoint import Answer, Endpoint, Header, Tag
from services.api.web.headers import preferred_type
from services.api.web.paging import (
    DEFAULT_LIMIT,
    NEXT_PAGE,
    PageLimit,
    PageQuery,
    encode_cursor,
    page_response,
)
from services.api.web.problems import Problem, validation_problem
from services.api.web.query import Flag, Instant, Query
from services.api.web.responses import NO_STORE
from services.api.web.streaming import streamed
from shared.domain.lead import LeadStatus, email_key
from shared.domain.lead_file import FileFormat
from shared.events.envelope import now
from shared.events.lead_fields import TEXT, Cleaned, Email
from shared.lead_files import csv_header, csv_line
from shared.storage.lead_export import LeadExport, LeadFilters

LONGEST_TEXT = 100
MOST_WORDS = 8
MOST_IDS = 100

# Before when nothing new can come to stand: `services.api.storage.settled`.
SettledBefore = Callable[[], Awaitable[Settled]]

_accents = re.compile("[\u0300-\u036f]")
_searchable = re.compile(r"[^\W_]").search


def _with_plus(value: Any) -> Any:
    """Return an address in which no plus sign has become a space, as one does in an address bar."""
    return value.strip().replace(" ", "+") if isinstance(value, str) else value


def _check_search(value: str) -> str:
    number = len(words_of(value))
    if not number:
        raise PydanticCustomError("search", "Must hold a letter or a digit")
    if number > MOST_WORDS:
        raise PydanticCustomError("search", "May hold {most} words at most", {"most": MOST_WORDS})
    return value


SearchText = Annotated[
    str, Cleaned, Field(min_length=1, max_length=LONGEST_TEXT, json_schema_extra={**TEXT})
]


class LeadFilterQuery(Query):
    """Which leads: those to which everything applies that is given."""

    repeatable: ClassVar[frozenset[str]] = frozenset({"id"})

    id: Annotated[
        tuple[UUID, ...] | None,
        Field(max_length=MOST_IDS, description="The leads with these ids: given once for each"),
    ] = None
    email: Annotated[
        Annotated[Email, BeforeValidator(_with_plus)] | None,
        Field(description="The e-mail address, whatever the case of its letters"),
    ] = None
    external_id: Annotated[UUID | None, Field(description="The `externalId`")] = None
    status: Annotated[LeadStatus | None, Field(description="The status")] = None
    source: Annotated[SearchText | None, Field(description="The source, such as `manual`")] = None
    country: Annotated[
        SearchText | None, Field(description="The country, in any spelling as of `q`")
    ] = None
    created_after: Annotated[Instant | None, Field(description="Created at this time or later")] = (
        None
    )
    created_before: Annotated[Instant | None, Field(description="Created before this time")] = None
    updated_after: Annotated[
        Instant | None, Field(description="Last changed at this time or later")
    ] = None
    updated_before: Annotated[
        Instant | None, Field(description="Last changed before this time")
    ] = None
    has_summary: Annotated[Flag | None, Field(description="With a summary, or without")] = None
    q: Annotated[
        Annotated[SearchText, AfterValidator(_check_search)] | None,
        Field(
            description="Words that all occur in the names, e-mail address, city or country, "
            "whatever their letters' case, accents and strokes (`lodz` finds Łódź, `strasse` "
            "Straße): anywhere, or at the beginning of a word for those of one or two letters"
        ),
    ] = None

    @property
    def polled(self) -> tuple[str, ...]:
        """The times by which somebody may look for what is new: `created`, `updated`."""
        return tuple(
            time for time in ("created", "updated") if getattr(self, f"{time}_after") is not None
        )

    def settled(self, moment: datetime) -> Self:
        """Return the same without what has a polled time that is not before `moment`."""
        given = {name: getattr(self, name) for name in self._bounds}
        return self.model_copy(
            update={name: min(value or moment, moment) for name, value in given.items()}
        )

    @property
    def bounds(self) -> dict[str, str]:
        """The parameters that say to where polled times go."""
        given = self.model_dump(mode="json", by_alias=True, include=self._bounds, exclude_none=True)
        return {name: str(value) for name, value in given.items()}

    @property
    def _bounds(self) -> set[str]:
        return {f"{time}_before" for time in self.polled}

    def filters(self) -> LeadFilters:
        """Return the same in the storage's terms."""
        return LeadFilters(
            # In whatever order they are given, and how often: it is the same list.
            ids=None if self.id is None else tuple(sorted(set(self.id))),
            email_key=None if self.email is None else email_key(self.email),
            external_id=self.external_id,
            status=self.status,
            source=self.source,
            country=self.country,
            created_after=self.created_after,
            created_before=self.created_before,
            updated_after=self.updated_after,
            updated_before=self.updated_before,
            has_summary=self.has_summary,
            words=() if self.q is None else words_of(self.q),
        )


def _without_default(schema: JsonDict) -> None:
    del schema["default"]


class LeadListQuery(LeadFilterQuery, PageQuery):
    """Which page of which leads, in which order."""

    limit: Annotated[
        PageLimit,
        Field(
            description=f"How many to a page. Left out: {DEFAULT_LIMIT}, unless the API is set to "
            "another number",
            json_schema_extra=_without_default,
        ),
    ] = DEFAULT_LIMIT
    sort: Annotated[LeadSort, Field(description="The order; a minus sign turns it round")] = (
        LeadSort.CREATED_LAST
    )
    count: Annotated[
        Literal["exact"] | None,
        Field(description="Have all leads of the list counted, into `X-Total-Count`"),
    ] = None

    @property
    def polled(self) -> tuple[str, ...]:
        """The times by which somebody may look for what is new: `created`, `updated`."""
        by_order = ("updated",) if self.sort.removeprefix("-") == LeadSort.UPDATED else ()
        return super().polled + by_order

    @property
    def scope(self) -> str:
        """What a cursor of this list belongs to."""
        return f"leads {self.sort} {self.filters()!r}"


class LeadExportQuery(LeadFilterQuery):
    """Which leads, as what."""

    format: Annotated[
        FileFormat | None,
        Field(description="What to write them as. Left out: what `Accept` prefers, or else NDJSON"),
    ] = None
    bom: Annotated[
        Flag, Field(description="Begin CSV with a byte order mark, by which Excel knows UTF-8")
    ] = False


def words_of(search: str) -> tuple[str, ...]:
    """Return the words to be found, without accents; what has no letter or digit is left out."""
    plain = _accents.sub("", unicodedata.normalize("NFKD", search))
    return tuple(dict.fromkeys(word for word in plain.split() if _searchable(word)))


TOTAL_COUNT = Header(
    name="X-Total-Count",
    description="How many leads the list has, with `count=exact`",
    example="1234",
    type=int,
    is_required=False,
)


class LeadListHandlers:
    """Lists leads."""

    def __init__(
        self,
        leads: Reads[LeadSearch],
        *,
        settled_before: SettledBefore,
        timeout: timedelta,
        default_limit: int = DEFAULT_LIMIT,
    ) -> None:
        self._leads = leads
        self._settled_before = settled_before
        self._default_limit = default_limit
        self._seconds = timeout.total_seconds()

    @Endpoint(
        "GET",
        "/leads",
        id="listLeads",
        tag=Tag.LEADS,
        summary="List leads",
        explanation="A page is an array, and not all leads. `Link` leads to the next one, until "
        "the last: follow it as it is. Pages are stable while leads are added. To poll for what "
        "is new, ask with `updatedAfter` for the greatest `updatedAt` that you have seen: nothing "
        "is missed. For that, lists by `updatedAfter` or `createdAfter`, or in the order of "
        "`updatedAt`, end before what a write that is under way may still overtake: as a rule, a "
        "moment ago. Where lists are read from a replica of the database, all of them show what "
        "was so a moment ago: a lead is read by its `id` at once.",
        query=LeadListQuery,
        answers=(
            Answer.json(200, list[Lead], "A page of leads", headers=(NEXT_PAGE, TOTAL_COUNT)),
        ),
        problems=("unavailable",),
    )
    async def list_leads(self, call: Call) -> web.StreamResponse:
        """Answer with an array; `Link` leads to the next page."""
        query = call.parse_query(LeadListQuery)
        limit = query.limit if "limit" in query.model_fields_set else self._default_limit
        after = query.position(scope=query.scope, by_time=query.sort.by_time)
        seen = None if after is None else after.seen
        async with asyncio.timeout(self._seconds):
            # All pages of a list end where its first one saw that it must.
            if query.polled and after is None:
                settled = await self._settled_before()
                query, seen = query.settled(settled.before), settled.place
            filters = query.filters()

            async def page(leads: LeadSearch) -> tuple[Page, int | None]:
                found = await leads.page(limit=limit, sort=query.sort, filters=filters, after=after)
                return found, await leads.count(filters) if query.count else None

            read = await self._leads.read(page, at_least=seen)
            found, total = read.result
            position = found.next_after
            if position is not None:
                position = replace(position, seen=await read.place())
        return page_response(
            call.request,
            ",".join(found.rows).encode(),
            cursor=None if position is None else encode_cursor(position, scope=query.scope),
            total=total,
            next_parameters=query.bounds,
        )


# An export holds a connection to PostgreSQL for as long as its client takes to read it.
MOST_AT_A_TIME = 2
# Rows to a chunk: so few that other requests do not wait for one to be written as CSV.
CHUNK = 250

# The usual one first.
MEDIA_TYPES = {
    "application/x-ndjson": FileFormat.NDJSON,
    "text/csv": FileFormat.CSV,
}
CONTENT_TYPES = {
    FileFormat.CSV: "text/csv; charset=utf-8; header=present",
    FileFormat.NDJSON: "application/x-ndjson",
}
FILE_NAME = Header(
    name="Content-Disposition",
    description="A name for the file",
    example='attachment; filename="leads-2026-11-24.csv"',
)


def _csv_line(document: bytes) -> bytes:
    return csv_line(document).encode()


def _ndjson_line(document: bytes) -> bytes:
    return document + b"\n"


# What a file begins with, and how a lead is written.
_FORMATS: Mapping[FileFormat, tuple[bytes, Callable[[bytes], bytes]]] = {
    FileFormat.CSV: (csv_header().encode(), _csv_line),
    FileFormat.NDJSON: (b"", _ndjson_line),
}


class LeadExportHandlers:
    """Exports leads, oldest first, as they were at one moment: some at a time in a process."""

    def __init__(self, leads: Reads[LeadExport], *, settled_before: SettledBefore) -> None:
        self._leads = leads
        self._settled_before = settled_before
        self._under_way = 0

    @Endpoint(
        "GET",
        "/leads/export",
        id="exportLeads",
        tag=Tag.LEADS,
        summary="Export leads",
        explanation="All leads that the parameters leave, oldest first, as they are at one "
        "moment; by `updatedAfter` or `createdAfter` as in the list. In CSV, a cell that a "
        "spreadsheet would run as a formula begins with an apostrophe, phone numbers with a plus "
        "sign among them; imports take it away again. With `bom` Excel knows that it is UTF-8. "
        "A file that breaks off ends without the last chunk of the transfer.",
        query=LeadExportQuery,
        answers=(
            Answer(
                status=200,
                description="The leads, one to a line",
                content=dict.fromkeys(MEDIA_TYPES, str),
                headers=(FILE_NAME,),
            ),
        ),
        problems=("rate-limited", "unavailable"),
    )
    async def export(self, call: Call) -> web.StreamResponse:
        """Answer with a file that is written while it is sent."""
        query = call.parse_query(LeadExportQuery)
        seen: int | None = None
        if query.polled:
            settled = await self._settled_before()
            query, seen = query.settled(settled.before), settled.place
        file_format = (
            query.format or MEDIA_TYPES[preferred_type(call.request.headers, *MEDIA_TYPES)]
        )
        if query.bom and file_format is not FileFormat.CSV:
            raise validation_problem({"bom": "Is for CSV"})
        name = f"leads-{now():%Y-%m-%d}.{file_format}"
        mark = BOM_UTF8 if query.bom else b""
        return await streamed(
            self._chunks(query.filters(), file_format, mark=mark, seen=seen),
            content_type=CONTENT_TYPES[file_format],
            headers={FILE_NAME.name: f'attachment; filename="{name}"', **NO_STORE},
        )

    async def _chunks(
        self, filters: LeadFilters, file_format: FileFormat, *, mark: bytes, seen: int | None
    ) -> AsyncGenerator[bytes]:
        beginning, line = _FORMATS[file_format]
        beginning = mark + beginning
        with self._turn():
            leads = await self._leads.choose(at_least=seen)
            async with contextlib.aclosing(leads.batches(filters, size=CHUNK)) as batches:
                async for batch in batches:
                    yield beginning + b"".join(map(line, batch))
                    beginning = b""
                yield beginning  # of no leads at all

    @contextlib.contextmanager
    def _turn(self) -> Generator[None]:
        if self._under_way >= MOST_AT_A_TIME:
            raise Problem(
                "rate-limited",
                f"Only {MOST_AT_A_TIME} exports can be under way at a time",
                headers={"Retry-After": "10"},
            )
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
