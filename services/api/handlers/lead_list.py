"""GET `/leads`: filtered, sorted, page by page."""

import asyncio
from datetime import timedelta

from aiohttp import web

from services.api.lead_queries import LeadListQuery
from services.api.paging import decode_cursor, encode_cursor, page_response
from services.api.query_parameters import parse_query
from services.api.routing import Call
from shared.storage.lead_search import LeadSearch


class LeadListHandlers:
    """Lists leads."""

    def __init__(self, leads: LeadSearch, *, timeout: timedelta) -> None:
        self._leads = leads
        self._seconds = timeout.total_seconds()

    async def list(self, call: Call) -> web.StreamResponse:
        """GET /leads: a bare array; `Link` leads to the next page."""
        query = parse_query(LeadListQuery, call.request.query)
        filters, scope = query.filters(), query.scope
        after = (
            None
            if query.after is None
            else decode_cursor(query.after, scope=scope, by_time=query.sort.by_time)
        )
        async with asyncio.timeout(self._seconds):
            found = await self._leads.page(
                limit=query.limit + 1, sort=query.sort, filters=filters, after=after
            )
            total = await self._leads.count(filters) if query.count else None
        page = found[: query.limit]
        return page_response(
            call.request,
            [lead.json for lead in found],
            limit=query.limit,
            cursor=encode_cursor(page[-1].position, scope=scope) if page else None,
            total=total,
        )
