"""The cache never moves to an older version, and is never needed."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from uuid import UUID

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from yarl import URL

from shared.cache.lead_cache import PREFIX, CachedLead, LeadCache, open_cache
from shared.domain.errors import UnavailableError
from shared.events.envelope import new_id
from shared.settings import CacheSettings, SettingsError
from tests.support.idle_connections import until_dead
from tests.support.tcp_proxy import TcpProxy

WRITERS = 4


@dataclass(frozen=True)
class Lead:
    id: UUID
    version: int
    external_id: UUID | None = None
    moved_key: UUID | None = None

    @property
    def read_at(self) -> float:
        return time.monotonic()

    @property
    def partition_key(self) -> UUID:
        return self.moved_key or self.external_id or self.id

    @property
    def json(self) -> bytes:
        pointer = "null" if self.external_id is None else f'"{self.external_id}"'
        return f'{{"id":"{self.id}","externalId":{pointer},"version":{self.version}}}'.encode()


@pytest.fixture
async def cache(cache_settings: CacheSettings, redis_url: str) -> AsyncGenerator[LeadCache]:
    async with open_cache(cache_settings, default_url=redis_url) as opened:
        yield opened


async def test_a_lead_is_found_by_both_ids_and_kept_once(cache: LeadCache, redis: Redis) -> None:
    lead = Lead(new_id(), 1, new_id())
    await cache.put([lead])
    assert lead.external_id is not None
    for found in (await cache.get(lead.id), await cache.get_by_external_id(lead.external_id)):
        assert found is not None
        assert (found.version, found.json) == (1, lead.json)
    assert await redis.get(f"{PREFIX}external:{lead.external_id}") == str(lead.id).encode()
    for key in await redis.keys(f"{PREFIX}*"):
        assert 250_000 < await redis.pttl(key) < 350_000


async def test_an_older_version_never_replaces_a_newer_one(cache: LeadCache) -> None:
    lead_id = new_id()
    for version in (2, 1, 3, 2, 10, 9):
        await cache.fill(Lead(lead_id, version))
    found = await cache.get(lead_id)
    assert found is not None
    assert found.version == 10


async def test_a_key_that_does_not_follow_from_the_lead_comes_with_it(cache: LeadCache) -> None:
    external_id, key = new_id(), new_id()
    for lead in (Lead(new_id(), 1), Lead(new_id(), 1, external_id)):
        await cache.put([lead])
        assert await cache.get(lead.id) == CachedLead(1, lead.json)
    moved = Lead(new_id(), 1, external_id, key)
    await cache.put([moved])
    for found in (
        await cache.get(moved.id),
        await cache.get_by_external_id(external_id),
        await cache.find(str(moved.id)),
    ):
        assert found == CachedLead(1, moved.json, str(key))


async def test_versions_are_compared_whatever_the_keys(cache: LeadCache) -> None:
    lead_id, key = new_id(), new_id()
    newest = Lead(lead_id, 11, None, key)
    for lead in (newest, Lead(lead_id, 10), replace(newest, version=9), Lead(lead_id, 2)):
        await cache.put([lead])
        assert await cache.get(lead_id) == CachedLead(11, newest.json, str(key))
    await cache.put([Lead(lead_id, 12)])
    assert await cache.get(lead_id) == CachedLead(12, Lead(lead_id, 12).json)


async def test_a_deleted_lead_is_not_served_nor_filled_in_again(cache: LeadCache) -> None:
    lead = Lead(new_id(), 3, new_id())
    await cache.put([lead])
    await cache.mark_deleted(lead.id, lead.external_id, version=4)
    await cache.fill(lead)
    assert lead.external_id is not None
    assert await cache.get(lead.id) is None
    assert await cache.get_by_external_id(lead.external_id) is None


async def test_a_pointer_to_a_lead_that_has_moved_on_finds_nothing(cache: LeadCache) -> None:
    lead = Lead(new_id(), 1, new_id())
    await cache.put([lead])
    await cache.put([Lead(lead.id, 2, new_id())])
    assert lead.external_id is not None
    assert await cache.get_by_external_id(lead.external_id) is None


async def test_foreign_keys_are_out_of_reach(cache: LeadCache, redis: Redis) -> None:
    lead_id = new_id()
    await redis.set(str(lead_id), '1:{"secret":true}')
    assert await cache.get(lead_id) is None
    assert await cache.get_by_external_id(lead_id) is None


async def test_readers_and_writers_in_any_order_never_move_it_back(cache: LeadCache) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    for _round in range(300):
        lead_id = new_id()
        versions = list(range(1, 8))
        chance.shuffle(versions)

        async def write(version: int, lead_id: UUID = lead_id) -> None:
            await asyncio.sleep(0)
            await cache.fill(Lead(lead_id, version))

        await asyncio.gather(*(write(version) for version in versions))
        found = await cache.get(lead_id)
        assert found is not None, seed
        assert found.version == 7, seed


@pytest.mark.parametrize("how", ["closed", "reset"])
async def test_connections_that_died_idle_fail_no_write(
    how: str, link: TcpProxy, redis_url: str, redis: Redis, cache_settings: CacheSettings
) -> None:
    address = str(URL(redis_url).with_port(link.port)) if how == "reset" else redis_url
    leads = [Lead(new_id(), 1) for _ in range(WRITERS)]
    async with open_cache(cache_settings, default_url=address) as cache:
        await asyncio.gather(*(cache.put([lead]) for lead in leads))
        assert await cache.get(leads[0].id) is not None
        if how == "closed":
            assert await redis.client_kill_filter(_type="normal", skipme=True) > WRITERS
        else:
            link.cut()
        await until_dead(cache._client.connection_pool)  # pyright: ignore[reportPrivateUsage] (a white box)
        await asyncio.gather(*(cache.put([replace(lead, version=2)]) for lead in leads))
        found = await cache.get(leads[0].id)
        assert found is not None
        assert found.version == 2


async def test_behind_sentinel_the_cache_wants_a_server_of_its_own() -> None:
    with pytest.raises(SettingsError, match="CACHE_REDIS_URL"):
        async with open_cache(CacheSettings(), default_url="redis+sentinel://:x@host:1/group/0"):
            pass


async def test_without_redis_reads_find_nothing_and_writes_say_so(
    cache_settings: CacheSettings,
) -> None:
    nowhere = cache_settings.model_copy(
        update={"cache_redis_url": SecretStr("redis://127.0.0.1:9/0")}
    )
    lead = Lead(new_id(), 1)
    async with open_cache(nowhere, default_url="") as cache:
        assert await cache.get(lead.id) is None
        await cache.fill(lead)
        with pytest.raises(UnavailableError):
            await cache.put([lead])
