"""The embedded Valkey: what it keeps, and what it survives."""

import shutil
import stat
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError

from devstack.data_directory import scratch_directory
from devstack.process import ProcessFailedError
from devstack.servers.binaries import BinaryNotFoundError, executable, valkey_server
from devstack.servers.valkey import EmbeddedValkey

NO_RETRY = Retry(NoBackoff(), 0)


@pytest.fixture(scope="module")
async def server() -> AsyncGenerator[EmbeddedValkey]:
    with scratch_directory() as directory:
        async with EmbeddedValkey(directory) as running:
            yield running


async def test_it_never_forgets_entries_and_logs_each_write(server: EmbeddedValkey) -> None:
    async with Redis.from_url(server.url) as redis:
        settings = await redis.config_get("append*", "maxmemory-policy", "save")
    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "everysec"
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["save"] == ""


async def test_it_asks_for_the_password(server: EmbeddedValkey) -> None:
    async with Redis(host=server.host, port=server.port, retry=NO_RETRY) as redis:
        with pytest.raises(AuthenticationError):
            await redis.ping()


async def test_a_restart_keeps_port_and_data_and_is_another_process(server: EmbeddedValkey) -> None:
    before = (server.url, server.pid)
    async with Redis.from_url(server.url) as redis:
        await redis.xadd("stream", {"note": "before the restart"})
    await server.restart()
    async with Redis.from_url(server.url) as redis:
        assert await redis.xlen("stream") == 1
    assert server.url == before[0]
    assert server.pid != before[1]


async def test_a_crash_loses_nothing_answered(server: EmbeddedValkey) -> None:
    async with Redis.from_url(server.url) as redis:
        for number in range(100):
            await redis.rpush("list", number)
        await server.kill()
        with pytest.raises(RedisConnectionError):
            await redis.ping()
    await server.restart()
    async with Redis.from_url(server.url) as redis:
        assert await redis.llen("list") == 100


async def test_data_is_there_at_the_next_run(scratch: Path) -> None:
    directory = scratch / "with a space"
    async with EmbeddedValkey(directory) as first, Redis.from_url(first.url) as redis:
        await redis.set("key", "value")
    async with EmbeddedValkey(directory) as second, Redis.from_url(second.url) as redis:
        assert await redis.get("key") == b"value"


async def test_broken_data_is_an_error_with_the_servers_own_words(scratch: Path) -> None:
    async with EmbeddedValkey(scratch):
        pass
    manifest = scratch / "appendonlydir" / "appendonly.aof.manifest"
    manifest.write_text("no manifest\n")
    with pytest.raises(ProcessFailedError, match="AOF manifest"):
        async with EmbeddedValkey(scratch):
            pass


def test_a_binary_without_the_x_bit_is_copied(scratch: Path) -> None:
    plain = scratch / "valkey-server"
    shutil.copyfile(valkey_server({}), plain)
    plain.chmod(0o644)
    copy = executable(plain, spare=scratch / "bin")
    assert copy != plain
    assert copy.stat().st_mode & stat.S_IXUSR
    assert executable(copy, spare=scratch / "bin") == copy


def test_the_users_own_binary_is_preferred(scratch: Path) -> None:
    mine = scratch / "redis-server"
    mine.touch()
    assert valkey_server({"REDIS_BIN": str(mine)}) == mine
    assert valkey_server({"VALKEY_BIN": str(scratch)}) == mine, "its directory will do"
    with pytest.raises(BinaryNotFoundError, match="VALKEY_BIN"):
        valkey_server({"VALKEY_BIN": str(scratch / "missing")})
