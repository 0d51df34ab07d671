"""Leads page by page: filtered, sorted, and as cheap on page 10,000 as on the first."""

from datetime import timedelta
from enum import StrEnum

from services.api.storage.pages import Page, Position, fetch_page
from shared.storage.lead_export import EVERYTHING, FilteredLeads, LeadFilters
from shared.storage.pool import Database

# Counting reads every lead that there is, in the worst case.
COUNT_TIMEOUT = timedelta(seconds=30)

# Put together, since an order cannot be a parameter: each has an index of its own. Only the words
# of `_KEYS` and of this module get into a statement, and the conditions of `FilteredLeads`.
_PAGE = """
    SELECT {key} AS key, id, leads.lead_json(lead) AS json FROM leads.lead
    WHERE {after} ORDER BY {key} {direction}, id {direction} LIMIT $1::integer + 1
"""
# The inner query finds and sorts, so that JSON is made of no more than a page.
_FILTERED_PAGE = """
    SELECT key, id, leads.lead_json(lead) AS json FROM (
        SELECT {key} AS key, id, lead FROM leads.lead
        WHERE {conditions} AND {after} ORDER BY {key} {direction}, id {direction}
        LIMIT $1::integer + 1
    ) AS page ORDER BY key {direction}, id {direction}
"""
_COUNT = "SELECT count(*) FROM leads.lead WHERE {conditions}"


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

    @property
    def is_descending(self) -> bool:
        """Whether the greatest come first."""
        return self.startswith("-")


_KEYS = {
    "createdAt": "created_at",
    "updatedAt": "updated_at",
    "lastName": "leads.folded(last_name)",
}


class LeadSearch:
    """Pages and counts of leads."""

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
    ) -> Page:
        """Return up to `limit` leads that come after a position of the same order."""
        values = () if after is None else (after.key, after.id)
        if filters == EVERYTHING:
            # No value makes another plan better.
            async with self._database.connection() as connection:
                query = _in_order(_PAGE, sort, is_first=after is None)
                return await fetch_page(connection, query, limit, *values)
        async with self._leads.filtering(filters, first_parameter=len(values) + 2) as leads:
            query = _in_order(
                _FILTERED_PAGE, sort, is_first=after is None, conditions=leads.conditions
            )
            return await fetch_page(leads.connection, query, limit, *values, *leads.parameters)

    async def count(self, filters: LeadFilters = EVERYTHING) -> int:
        """Return how many leads there are; costs as much as reading them all."""
        seconds = COUNT_TIMEOUT.total_seconds()
        async with self._leads.filtering(filters) as leads:
            query = _COUNT.format(conditions=leads.conditions)
            return int(await leads.connection.fetchval(query, *leads.parameters, timeout=seconds))


def _in_order(query: str, sort: LeadSort, *, is_first: bool, conditions: str = "") -> str:
    """Return the query of a page in this order; one that is not the first has $2 and $3."""
    key = _KEYS[sort.removeprefix("-")]
    direction, beyond = ("DESC", "<") if sort.is_descending else ("ASC", ">")
    after = "true" if is_first else f"({key}, id) {beyond} ($2, $3)"
    return query.format(key=key, direction=direction, after=after, conditions=conditions)
