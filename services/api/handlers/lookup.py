"""Finding one lead by either of its ids: in the cache, else in PostgreSQL."""

import asyncio
from datetime import timedelta
from uuid import UUID

import orjson

from services.api.web.problems import Problem
from shared.cache.lead_cache import CachedLead, LeadCache
from shared.domain.errors import UnavailableError
from shared.storage.lead_document import LeadDocument, LeadRepository


class LeadLookup:
    """Reads through the cache. A UUID may be one lead's id and another's externalId: ids win."""

    def __init__(self, cache: LeadCache, leads: LeadRepository, *, timeout: timedelta) -> None:
        self._cache = cache
        self._leads = leads
        self._seconds = timeout.total_seconds()

    async def find(self, key: str) -> CachedLead | LeadDocument:
        """Return the lead whose id or externalId this is, a UUID in its canonical form.

        Raises `Problem` 404, and `UnavailableError` in time.
        """
        cached = await self._cache.find(key)
        if cached is not None:
            return cached
        document = await self._stored(UUID(key))
        if document is None:
            raise Problem("lead-not-found", "There is no lead with this id or externalId")
        await self._cache.fill(document)
        return document

    async def find_id(self, key: str) -> UUID:
        """Return the id of the lead whose id or externalId this is; raises like `find`."""
        return id_of(await self.find(key))

    async def _stored(self, key: UUID) -> LeadDocument | None:
        try:
            async with asyncio.timeout(self._seconds):
                return await self._leads.get(key) or await self._leads.get_by_external_id(key)
        except TimeoutError as error:
            raise UnavailableError("PostgreSQL did not answer in time") from error


def id_of(lead: CachedLead | LeadDocument) -> UUID:
    """Return the id of a lead that was found."""
    return UUID(orjson.loads(lead.json)["id"]) if isinstance(lead, CachedLead) else lead.id
