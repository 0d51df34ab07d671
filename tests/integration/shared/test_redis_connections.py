"""Connections to Redis that die while they are idle fail no command."""

import asyncio

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from yarl import URL

from shared.redis_connections import open_redis, ping
from shared.settings import StreamsSettings
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
