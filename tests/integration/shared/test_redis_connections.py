"""Connections to Redis: those that die idle, calls that are cancelled, servers that will not do."""

import asyncio
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from yarl import URL

from devstack.free_ports import free_port
from devstack.servers.valkey import EmbeddedValkey
from shared.redis_connections import open_redis, ping, refuse_cluster, translated_errors
from shared.settings import SettingsError, StreamsSettings
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


class ClusterNode(EmbeddedValkey):
    """A server that is a node of a cluster."""

    def _write_configuration(self) -> Path:
        path = super()._write_configuration()
        with path.open("a") as configuration:
            configuration.write(f"cluster-enabled yes\ncluster-port {free_port()}\n")
        return path


async def test_a_node_of_a_cluster_is_refused_with_what_to_do(tmp_path: Path) -> None:
    async with (
        ClusterNode(tmp_path, appendfsync="no") as node,
        open_redis(StreamsSettings(redis_url=SecretStr(node.url))) as client,
    ):
        with pytest.raises(SettingsError, match="REDIS_URL: names a node of a Redis Cluster"):
            await refuse_cluster(client)


async def test_one_server_will_do_and_one_that_is_away_is_not_asked(redis: Redis) -> None:
    await refuse_cluster(redis)
    nowhere = StreamsSettings(redis_url=SecretStr("redis://127.0.0.1:1/0"))
    async with open_redis(nowhere) as client:
        await refuse_cluster(client)


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
