"""What happened to a lead: its events and its summaries."""

import asyncio
from datetime import timedelta
from uuid import UUID

from aiohttp import web

from services.api.handlers.lookup import LeadLookup
from services.api.server.routing import Call
from services.api.storage.history import LeadHistory
from services.api.web.paging import PageQuery, list_response
from services.api.web.problems import Problem
from services.api.web.query import canonical_id, parse_query

NOT_FOUND = "lead-not-found"


class LeadHistoryHandlers:
    """Lists what belongs to one lead, newest first."""

    def __init__(self, *, lookup: LeadLookup, history: LeadHistory, timeout: timedelta) -> None:
        self._lookup = lookup
        self._history = history
        self._seconds = timeout.total_seconds()

    async def list_events(self, call: Call) -> web.StreamResponse:
        """GET /leads/{id or externalId}/history; by its id also that of a deleted lead."""
        query = parse_query(PageQuery, call.request.query)
        lead_id = await self._id_of_any(canonical_id(call.param, missing=NOT_FOUND))
        scope = f"history {lead_id}"
        after = query.position(scope=scope)
        async with asyncio.timeout(self._seconds):
            rows = await self._history.events(lead_id, limit=query.limit + 1, after=after)
        return list_response(call.request, rows, limit=query.limit, scope=scope)

    async def list_summaries(self, call: Call) -> web.StreamResponse:
        """GET /leads/{id or externalId}/summaries."""
        query = parse_query(PageQuery, call.request.query)
        lead_id = await self._lookup.find_id(canonical_id(call.param, missing=NOT_FOUND))
        scope = f"summaries {lead_id}"
        after = query.position(scope=scope)
        async with asyncio.timeout(self._seconds):
            rows = await self._history.summaries(lead_id, limit=query.limit + 1, after=after)
        return list_response(call.request, rows, limit=query.limit, scope=scope)

    async def _id_of_any(self, key: str) -> UUID:
        try:
            return await self._lookup.find_id(key)
        except Problem as problem:
            if problem.code != NOT_FOUND or not await self._was_there(UUID(key)):
                raise
            return UUID(key)

    async def _was_there(self, lead_id: UUID) -> bool:
        async with asyncio.timeout(self._seconds):
            return bool(await self._history.events(lead_id, limit=1))
