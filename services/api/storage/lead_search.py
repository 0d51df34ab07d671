"""Leads page by page: filtered, sorted, and as cheap on page 10,000 as on the first."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from services.api.storage.pages import PageRow, Position, page_rows
from shared.storage.lead_document import LEAD_JSON
from shared.storage.lead_export import (
    CONDITION,
    EVERYTHING,
    NEXT_PARAMETER,
    FilteredLeads,
    LeadFilters,
)
from shared.storage.pool import Database

# Counting reads every lead that there is, in the worst case.
COUNT_TIMEOUT = timedelta(seconds=30)


class LeadSort(StrEnum):
    """Every order in which leads are listed; ids decide between equals."""

    CREATED = "createdAt"
    CREATED_LAST = "-createdAt"
    UPDATED = "updatedAt"
    UPDATED_LAST = "-updatedAt"
    LAST_NAME = "lastName"
    LAST_NAME_LAST = "-lastName"

    @property
    def by_time(self) -> bool:
        """Whether positions in this order are times; else they are folded names."""
        return self not in (LeadSort.LAST_NAME, LeadSort.LAST_NAME_LAST)


@dataclass(frozen=True, slots=True)
class _Queries:
    """The queries of one order. Without filters one plan is good for all values."""

    first: str
    next: str
    filtered: str


def _queries(key: str, key_type: str, *, descending: bool) -> _Queries:
    direction, behind = ("DESC", "<") if descending else ("ASC", ">")
    select = f"SELECT {key} AS key, lead.id, {LEAD_JSON} AS json FROM leads.lead"  # noqa: S608 (constants)
    order = f"ORDER BY {key} {direction}, id {direction} LIMIT"
    at = NEXT_PARAMETER
    position = f"""
        (${at}::{key_type} IS NULL OR ({key}, id) {behind} (${at}, ${at + 1}::uuid))
    """
    return _Queries(
        first=f"{select} {order} $1",
        next=f"{select} WHERE ({key}, id) {behind} ($2, $3) {order} $1",
        # The inner query finds and sorts, so that JSON is built of no more than a page.
        filtered=f"""
            SELECT key, lead.id, {LEAD_JSON} AS json FROM (
                SELECT lead.*, {key} AS key FROM leads.lead
                WHERE {CONDITION} AND {position} {order} ${at + 2}
            ) AS lead ORDER BY key {direction}, id {direction}
        """,  # noqa: S608 (constants)
    )


_LAST_NAME = "leads.folded(last_name)"
_QUERIES = {
    LeadSort.CREATED: _queries("created_at", "timestamptz", descending=False),
    LeadSort.CREATED_LAST: _queries("created_at", "timestamptz", descending=True),
    LeadSort.UPDATED: _queries("updated_at", "timestamptz", descending=False),
    LeadSort.UPDATED_LAST: _queries("updated_at", "timestamptz", descending=True),
    LeadSort.LAST_NAME: _queries(_LAST_NAME, "text", descending=False),
    LeadSort.LAST_NAME_LAST: _queries(_LAST_NAME, "text", descending=True),
}
_COUNT = f"SELECT count(*) FROM leads.lead WHERE {CONDITION}"  # noqa: S608 (constants)


class LeadSearch:
    """Every method raises `UnavailableError` when PostgreSQL is down."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._leads = FilteredLeads(database)

    async def page(
        self,
        *,
        limit: int,
        sort: LeadSort = LeadSort.CREATED_LAST,
        filters: LeadFilters = EVERYTHING,
        after: Position | None = None,
    ) -> list[PageRow]:
        """Return up to `limit` leads behind a position of the same order."""
        queries = _QUERIES[sort]
        if filters == EVERYTHING:
            async with self._database.connection() as connection:
                rows = (
                    await connection.fetch(queries.first, limit)
                    if after is None
                    else await connection.fetch(queries.next, limit, after.key, after.id)
                )
        else:
            place = (None, None) if after is None else (after.key, after.id)
            async with self._leads.filtering(filters) as (connection, parameters):
                rows = await connection.fetch(queries.filtered, *parameters, *place, limit)
        return page_rows(rows)

    async def count(self, filters: LeadFilters = EVERYTHING) -> int:
        """Return how many leads there are; costs as much as reading them all."""
        async with self._leads.filtering(filters) as (connection, parameters):
            seconds = COUNT_TIMEOUT.total_seconds()
            return int(await connection.fetchval(_COUNT, *parameters, timeout=seconds))
