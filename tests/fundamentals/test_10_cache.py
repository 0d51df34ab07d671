"""10. The cache never goes back to an older version."""

import time
from dataclasses import dataclass
from uuid import UUID

from shared.cache.lead_cache import open_cache
from shared.events.envelope import new_id
from shared.settings import CacheSettings


@dataclass(frozen=True)
class Lead:
    """What the cache wants to know of a lead."""

    id: UUID
    version: int
    json: bytes
    external_id: UUID | None = None

    @property
    def read_at(self) -> float:
        return time.monotonic()

    @property
    def partition_key(self) -> UUID:
        return self.external_id or self.id


async def test_cache(redis_url: str) -> None:
    lead_id = new_id()
    first, second = Lead(lead_id, 1, b'{"city":"London"}'), Lead(lead_id, 2, b'{"city":"Paris"}')

    async with open_cache(CacheSettings(), default_url=redis_url) as cache:
        # A reader missed the cache and found version 1 in PostgreSQL. Before it has filled the
        # cache, the lead changes, and the syncer writes version 2.
        await cache.put([second])
        # Now the slow reader writes what it found: too late, it is older.
        await cache.fill(first)
        found = await cache.get(lead_id)
        assert found is not None
        assert found.json == b'{"city":"Paris"}'

        # A deletion is a version too, and leaves a tombstone, or a slow reader would bring
        # a deleted person back.
        await cache.mark_deleted(lead_id, None, version=3)
        await cache.fill(second)
        assert await cache.get(lead_id) is None
