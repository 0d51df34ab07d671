"""Connections to Redis: those that die idle, calls that are cancelled, servers that will not do."""

import asyncio
from typing import Any

import pytest
from pydantic import SecretStr
from redis.asyncio import Connection, Redis
from redis.exceptions import TimeoutError as RedisTimeoutError
from yarl import URL

from shared.cache.lead_cache import open_cache
from shared.domain.errors import UnavailableError
from shared.redis_connections import (
    LivePool,
    check_server,
    open_redis,
    ping,
    translated_errors,
)
from shared.settings import CacheSettings, SettingsError, StreamsSettings
from tests.support.clusters import Cluster
from tests.support.idle_connections import until_dead
from tests.support.tcp_proxy import TcpProxy

CALLERS = 4


@pytest.mark.parametrize("how", ["closed", "reset"])
async def test_a_connection_that_died_idle_is_made_anew(
    how: str, link: TcpProxy, redis_url: str, redis: Redis
) -> None:
    address = str(URL(redis_url).with_port(link.port)) if how == "reset" else redis_url
    settings = StreamsSettings(redis_url=SecretStr(address))
    async with open_redis(settings) as client:
        await asyncio.gather(*(ping(client) for _ in range(CALLERS)))
        if how == "closed":
            assert await redis.client_kill_filter(_type="normal", skipme=True) >= CALLERS
        else:
            link.cut()
        await until_dead(client.connection_pool)
        await asyncio.gather(*(ping(client) for _ in range(CALLERS)))


async def test_a_node_of_a_cluster_is_refused_with_what_to_do(cluster: Cluster) -> None:
    settings = StreamsSettings(redis_url=SecretStr(cluster.nodes[0].url))
    async with open_redis(settings) as client:
        with pytest.raises(SettingsError, match=r"REDIS_URL: names a node .* redis\+cluster://"):
            await check_server(client, setting="REDIS_URL")
        # One of them is on another node.
        gets = asyncio.gather(*(client.get(key) for key in ("a", "b", "c")))
        with pytest.raises(UnavailableError, match=r"Say redis\+cluster://"), translated_errors():
            await gets


async def test_a_cache_on_a_node_of_a_cluster_is_refused_as_well(cluster: Cluster) -> None:
    url = cluster.nodes[0].url
    opening = open_cache(CacheSettings(cache_redis_url=SecretStr(url)), default_url=url)
    with pytest.raises(SettingsError, match="CACHE_REDIS_URL: names a node"):
        await opening.__aenter__()


async def test_one_server_is_no_cluster(redis_url: str) -> None:
    address = redis_url.replace("redis://", "redis+cluster://")
    async with open_redis(StreamsSettings(redis_url=SecretStr(address))) as client:
        with pytest.raises(SettingsError, match="REDIS_URL: names no node of a Redis Cluster"):
            await check_server(client, setting="REDIS_URL")


@pytest.mark.parametrize("database", ["/1", "/?db=3", "/0?db=2"])
async def test_a_cluster_has_one_database(database: str) -> None:
    settings = StreamsSettings(redis_url=SecretStr(f"redis+cluster://localhost:7000{database}"))
    with pytest.raises(SettingsError, match="no other database"):
        async with open_redis(settings):
            pass


async def test_one_server_will_do_and_one_that_is_away_is_not_asked(redis: Redis) -> None:
    await check_server(redis, setting="REDIS_URL")
    for scheme in ("redis", "redis+cluster"):
        nowhere = StreamsSettings(redis_url=SecretStr(f"{scheme}://127.0.0.1:1/0"))
        async with open_redis(nowhere) as client:
            await check_server(client, setting="REDIS_URL")


async def test_a_task_is_cancelled_at_whatever_point_of_a_command_it_is(redis: Redis) -> None:
    async def call_again_and_again() -> None:
        while True:
            with translated_errors():
                await redis.get("key")

    for turns in range(60):
        task = asyncio.create_task(call_again_and_again())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        async with asyncio.timeout(5):
            await asyncio.wait([task])
        assert task.cancelled()


class LateConnection(Connection):
    """One whose end is not seen in time, as with a server that hangs."""

    async def disconnect(self, *arguments: Any, **options: Any) -> None:
        await super().disconnect(*arguments, **options)
        raise RedisTimeoutError("Timed out closing connection")


async def test_a_connection_that_closes_late_keeps_no_process_from_ending(redis_url: str) -> None:
    pool = LivePool.from_url(redis_url, connection_class=LateConnection)
    async with Redis.from_pool(pool) as client:
        assert await client.ping()


async def test_who_waits_for_a_connection_gets_the_next_that_comes_back(redis_url: str) -> None:
    pool = LivePool.from_url(redis_url, max_connections=1, timeout=5)
    async with Redis.from_pool(pool), asyncio.timeout(4):
        connection = await pool.get_connection()
        waiting = asyncio.create_task(pool.get_connection())
        await asyncio.sleep(0)
        assert not waiting.done()
        await pool.release(connection)
        assert await waiting is connection
        await pool.release(connection)
