"""Writing leads to the cache: many requests that end at once share a round trip."""

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from shared.batcher import open_batcher
from shared.cache.lead_cache import LeadCache
from shared.storage.lead_document import LeadDocument

CacheLead = Callable[[LeadDocument], Awaitable[None]]
"""Writes a lead unless a newer version is there; raises `UnavailableError`."""


@contextlib.asynccontextmanager
async def open_cache_writes(cache: LeadCache) -> AsyncGenerator[CacheLead]:
    """Yield the function for the length of the block."""

    async def write(documents: Sequence[LeadDocument]) -> Sequence[None]:
        await cache.put(documents)
        return [None] * len(documents)

    async with open_batcher(write, name="cache writes") as writes:
        yield writes.submit
