"""A Sentinel group that elects another master: events go on without a restart."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
import redis
from pydantic import SecretStr
from redis.asyncio import Redis

from devstack.free_ports import free_port
from devstack.process import Command, Process, ignore_line
from devstack.servers.binaries import valkey_server
from shared.domain.errors import UnavailableError
from shared.events.envelope import Event
from shared.events.outcome import Outcome, OutcomeStatus
from shared.redis_connections import open_redis
from shared.settings import StreamsSettings
from shared.streams.publisher import add_events
from tests.support.builders import summary_requested
from tests.support.eventually import eventually
from tests.support.workers import Workers

PASSWORD = "swordfish"
FAIL_OVER = timedelta(seconds=30)

SENTINEL = """\
port {port}
bind 127.0.0.1
dir {directory}
sentinel monitor leads 127.0.0.1 {master} 1
sentinel auth-pass leads {password}
sentinel down-after-milliseconds leads 500
sentinel failover-timeout leads 3000
"""


@dataclass(frozen=True)
class SentinelGroup:
    """A master, its replica and a sentinel that watches both."""

    url: str
    master: Process
    replica_port: int


@pytest.fixture
async def group(tmp_path: Path) -> AsyncGenerator[SentinelGroup]:
    master, replica, sentinel = free_port(), free_port(), free_port()
    async with contextlib.AsyncExitStack() as stack:

        async def start(name: str, *arguments: str) -> Process:
            directory = tmp_path / name
            directory.mkdir()
            command = Command((str(valkey_server()), *arguments), directory=directory)
            process = await Process.start(name, command, on_line=ignore_line)
            stack.push_async_callback(process.stop, grace=timedelta(seconds=2))
            return process

        first = await start("master", *_server(master))
        await start("replica", *_server(replica), "--replicaof", "127.0.0.1", str(master))
        await eventually(lambda: _is_linked(replica))
        configuration = tmp_path / "sentinel.conf"
        configuration.write_text(
            SENTINEL.format(port=sentinel, directory=tmp_path, master=master, password=PASSWORD)
        )
        await start("sentinel", str(configuration), "--sentinel")
        await eventually(lambda: _knows_replica(sentinel), within=FAIL_OVER)
        url = f"redis+sentinel://:{PASSWORD}@127.0.0.1:{sentinel}/leads/0"
        yield SentinelGroup(url, first, replica)


async def test_callers_wait_for_a_connection(group: SentinelGroup) -> None:
    settings = StreamsSettings(redis_url=SecretStr(group.url))
    async with open_redis(settings) as client:
        added = await asyncio.gather(
            *(add_events(client, [summary_requested()]) for _ in range(300))
        )
    assert len(added) == 300


async def test_events_go_on_with_another_master(group: SentinelGroup) -> None:
    handled: set[str] = set()

    async def handler(events: Sequence[Event]) -> list[Outcome]:
        handled.update(str(event.id) for event in events)
        return [Outcome(OutcomeStatus.CREATED) for _ in events]

    settings = StreamsSettings(redis_url=SecretStr(group.url))
    async with open_redis(settings) as client, Workers(client, settings).running(handler):
        before, after = summary_requested(), summary_requested()
        await add_events(client, [before])
        await eventually(lambda: _contains(handled, before))
        group.master.kill()

        async def added() -> bool:
            try:
                return bool(await add_events(client, [after]))
            except UnavailableError:
                return False

        await eventually(added, within=FAIL_OVER)
        await eventually(lambda: _contains(handled, after), within=FAIL_OVER)


def _server(port: int) -> tuple[str, ...]:
    return (
        *("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"),
        *("--requirepass", PASSWORD, "--masterauth", PASSWORD),
        *("--repl-diskless-sync-delay", "0"),
    )


async def _is_linked(port: int) -> bool:
    return await _says(port, "replication", "master_link_status", "up", password=PASSWORD)


async def _knows_replica(port: int) -> bool:
    async with Redis(port=port) as client:
        try:
            state = cast("dict[str, int]", await client.sentinel_master("leads"))
            return state["num-slaves"] == 1
        except redis.ConnectionError:
            return False


async def _says(port: int, section: str, name: str, value: str, *, password: str) -> bool:
    try:
        async with Redis(port=port, password=password) as client:
            return (await client.info(section)).get(name) == value
    except redis.ConnectionError:
        return False


async def _contains(handled: set[str], event: Event) -> bool:
    return str(event.id) in handled
