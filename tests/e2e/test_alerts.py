"""Each fault of a running system fires its alerts and is told in the logs; mended, they end.

Prometheus stands beside the system. Its rules are the product's, with times twenty times shorter.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from redis.asyncio import Redis
from redis.typing import EncodableT, FieldT

from devstack.data_directory import scratch_directory
from devstack.free_ports import LOOPBACK, free_port
from devstack.servers.server import EmbeddedServer
from devstack.service import Service, ServiceSpec, module
from ops.running import Servers
from shared.background import background
from shared.events.catalog import IMPORTS, LEADS
from shared.settings import PostgresSettings
from shared.storage.pool import open_database
from shared.streams.ordering.layout import Divisions
from tests.faults.clients import Clients, clients_of
from tests.faults.system import (
    APIS,
    AUTH,
    GROQ,
    SERVICES,
    SOURCE,
    SUMMARIZER,
    SYNCERS,
    System,
    open_system,
    say,
)
from tests.support.eventually import eventually
from tests.support.outage_states import locked, older_schema, refusing, replica
from tests.support.prometheus import (
    BINARY,
    RULES,
    Prometheus,
    running_prometheus,
    shortened_rules,
)

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(BINARY is None, reason="NOT TRIED: apt-get install prometheus"),
]

SHORTER = 20
SCRAPES = "1s"
# The longest wait of a rule, its window, and a busy machine.
FIRES = timedelta(seconds=150)
ENDS = timedelta(seconds=90)
SETTINGS = {
    "LOG_LEVEL": "INFO",
    "SYNC_ENABLED": "true",
    "SYNC_CRON": "*/2 * * * * *",
    "SYNC_RESULTS": "1",
    "STREAM_MAX_ATTEMPTS": "50",
    "STREAM_RETENTION": "60",
}
JUNK = "x" * 16_000


@dataclass(frozen=True, slots=True)
class Watched:
    """A system under some load, and the Prometheus that watches it."""

    system: System
    prometheus: Prometheus
    servers: Servers
    exporter: Service
    clients: Clients
    partitions: tuple[str, ...]


@pytest.fixture(scope="module")
async def watched() -> AsyncGenerator[Watched]:
    with scratch_directory() as directory:
        async with AsyncExitStack() as stack:
            system = await stack.enter_async_context(open_system(directory, **SETTINGS))
            exporter = await stack.enter_async_context(_exporter(system))
            ports: dict[str, list[int]] = {name: [] for name in ("api", "syncer", "summarizer")}
            for name in SERVICES:
                port = system.services[name].spec.environment["HEALTH_PORT"]
                ports[name.partition(".")[0]].append(int(port))
            ports["exporter"] = [exporter.spec.port]
            postgres = PostgresSettings.model_validate(
                {"supabase_connection_string": system.postgres.dsn}
            )
            database = await stack.enter_async_context(open_database(postgres))
            redis = await stack.enter_async_context(Redis.from_url(system.valkey.url))
            clients = await stack.enter_async_context(clients_of(system, random.Random(7)))
            division = await Divisions(redis).published(LEADS)
            assert division is not None
            partitions = tuple(division.last.names)
            # Before any import: what is none, for a group that nobody reads for.
            await redis.xadd(IMPORTS, {"a": "b"}, id="1-1")
            await redis.xgroup_create(IMPORTS, "backfill", id="0")
            prometheus = await stack.enter_async_context(
                running_prometheus(
                    directory,
                    targets=ports,
                    rules=shortened_rules(RULES.read_text(), by=SHORTER),
                    every=SCRAPES,
                )
            )
            await stack.enter_async_context(background(load(clients), name="load"))
            yield Watched(
                system, prometheus, Servers(redis, database), exporter, clients, partitions
            )


@asynccontextmanager
async def _exporter(system: System) -> AsyncGenerator[Service]:
    port = free_port()
    spec = ServiceSpec(
        "exporter",
        module("tests.support.fast_exporter"),
        system.environment | {"HEALTH_PORT": str(port)},
        port,
        "/health",
    )
    service = Service(spec, on_line=lambda line: say("exporter", line))
    await service.start()
    try:
        assert await service.ready()
        yield service
    finally:
        await service.kill()


async def load(clients: Clients) -> None:
    """Ask for all kinds of things, whatever is answered; never returns."""
    ids = [""]

    async def create() -> None:
        answer = await clients.create()
        if answer is not None and answer.status == 201:
            ids[:] = [answer.body["id"]]

    works: tuple[tuple[Callable[[], Awaitable[Any]], float], ...] = (
        (create, 0.2),
        (lambda: clients.ask("GET", f"/leads/{ids[0]}"), 0.2),
        (lambda: clients.ask("GET", "/leads?limit=1"), 0.2),
        (lambda: clients.ask("POST", f"/leads/{ids[0]}/summary?regenerate=true"), 1),
        (clients.log_in, 1),
    )
    async with asyncio.TaskGroup() as tasks:
        for ask, pause in works:
            tasks.create_task(_again_and_again(ask, pause), name="load")


async def _again_and_again(ask: Callable[[], Awaitable[Any]], pause: float) -> None:
    under_way: set[asyncio.Task[Any]] = set()
    while True:
        if len(under_way) < 30:
            task = asyncio.ensure_future(ask())
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.sleep(pause)


async def says(system: System, services: tuple[str, ...], *texts: str) -> None:
    """Wait until one of the services has written a line with all of these."""

    async def has_said() -> bool:
        lines = [line for name in services for line in system.output[name]]
        assert any(all(text in line for text in texts) for line in lines), texts
        return True

    await eventually(has_said, within=ENDS)


@asynccontextmanager
async def down(server: EmbeddedServer) -> AsyncGenerator[None]:
    """Have a server dead for the length of the block."""
    await server.kill()
    try:
        yield
    finally:
        await server.start()


async def test_a_group_that_nobody_reads_for_and_what_is_no_event(watched: Watched) -> None:
    prometheus = watched.prometheus
    await prometheus.fires("TrimBlocked group=backfill", "Watchdog severity=none", within=FIRES)
    await says(watched.system, SYNCERS, "event.parked", "undecodable")
    await watched.servers.redis.xgroup_destroy(IMPORTS, "backfill")
    await prometheus.ends("TrimBlocked", "DeadLetters", "BacklogOld", within=ENDS)

    assert [one.name for one in await prometheus.firing() if one.name != "Watchdog"] == []


async def test_without_syncers_auth_and_model(watched: Watched) -> None:
    system, prometheus = watched.system, watched.prometheus.begin()
    async with system.control(GROQ).misbehaving(status=500):
        await system.stop(*SYNCERS)
        async with system.control(AUTH).misbehaving(status=503):
            await watched.servers.redis.xadd(IMPORTS, {"a": "b"})
            await prometheus.fires("WritesLate", "AuthDown", within=FIRES)
        for number in range(32):
            junk: dict[FieldT, EncodableT] = {"id": str(number), "data": JUNK}
            await watched.servers.redis.xadd(watched.partitions[number % 3], junk)
        await prometheus.fires(
            "ConsumersMissing stream=stream:leads group=syncer",
            "PartitionOrphaned partition=1.0",
            "BacklogOld stream=stream:leads severity=page",
            "BudgetBurnsFast slo=creates",
            "OperationsStuck kind=import",
            "StreamFilling stream=stream:leads",
            "WritesRefused why=full",
            within=FIRES,
        )
        await system.repair()
        await prometheus.fires(
            "DeadLetters severity=page", "DeadLetters severity=ticket", "ModelFailing", within=FIRES
        )
        await says(system, (SUMMARIZER,), "summary.failed")
    await prometheus.ends(
        *("WritesLate", "AuthDown", "ConsumersMissing", "PartitionOrphaned", "BacklogOld"),
        *("OperationsStuck", "StreamFilling", "WritesRefused", "DeadLetters", "ModelFailing"),
        within=ENDS,
    )


async def test_servers_that_are_away_or_take_no_writes(watched: Watched) -> None:
    system, prometheus = watched.system, watched.prometheus.begin()
    async with down(system.postgres):
        await prometheus.fires(
            "ServerUnwritable server=postgres", "WritesLate", "BudgetBurnsFast", within=FIRES
        )
        await says(system, (*SYNCERS, *APIS), "outage.began", '"postgres"')
    async with locked(watched.servers):
        await prometheus.begin().fires("ServerUnwritable server=postgres", within=FIRES)
    await prometheus.ends("ServerUnwritable", "WritesLate", within=ENDS)

    async with replica(watched.servers):
        await prometheus.fires(
            "ServerUnwritable server=redis", "WritesRefused why=redis", within=FIRES
        )
        await says(system, APIS, "outage.began", '"redis"')
    await prometheus.ends("ServerUnwritable", "WritesRefused", within=ENDS)
    async with down(system.valkey):
        await prometheus.begin().fires(
            *("ServerUnwritable server=redis", "WritesRefused why=redis", "CacheDown"),
            within=FIRES,
        )
    await prometheus.ends("ServerUnwritable", "WritesRefused", "CacheDown", within=ENDS)
    await says(system, SERVICES, "outage.ended", '"postgres"')
    await says(system, SERVICES, "outage.ended", '"redis"')


async def test_nearly_every_event_and_the_source_fail(watched: Watched) -> None:
    system, prometheus = watched.system, watched.prometheus.begin()
    await system.stop(SOURCE)
    async with refusing(watched.servers, code="P0001", says="a rule of the database"):
        await prometheus.fires("CircuitOpen group=syncer", "KeyHeld", "WritesLate", within=FIRES)
        await prometheus.fires("JobStale task=sync", within=FIRES)
        await says(system, SYNCERS, "event.held")
        await says(system, SYNCERS, "leads.not_synced")
    await system.repair()
    await prometheus.ends(
        *("CircuitOpen", "KeyHeld", "WritesLate", "BacklogOld", "JobStale"), within=ENDS
    )


async def test_connections_schema_and_processes(watched: Watched) -> None:
    system, prometheus = watched.system, watched.prometheus.begin()
    # By itself: whoever wants a connection meanwhile may find none left.
    async with _few_connections(system):
        await prometheus.fires("ConnectionsScarce where=server", within=FIRES)
    await prometheus.ends("ConnectionsScarce", "ServerUnwritable", within=ENDS)

    prometheus.begin()
    await system.stop(SUMMARIZER)
    async with older_schema(watched.servers):
        async with background(_keep_killing(system, prometheus, APIS[1]), name="killer"):
            await prometheus.fires("ProcessRestarts job=api", within=FIRES)
        await prometheus.fires("SchemaBehind", "ConsumersMissing group=summarizer", within=FIRES)
    # Of a schema that is behind nobody knows.
    assert not [one for one in prometheus.ever if one.name == "ServerUnwritable"]
    await system.repair()
    await prometheus.ends("ProcessRestarts", "SchemaBehind", "ConsumersMissing", within=ENDS)


@asynccontextmanager
async def _few_connections(system: System) -> AsyncGenerator[None]:
    """Take up most of what PostgreSQL has."""
    async with AsyncExitStack() as stack:
        one = await psycopg.AsyncConnection.connect(system.postgres.dsn, autocommit=True)
        await stack.enter_async_context(one)
        query = "SELECT current_setting('max_connections')::int, count(*) FROM pg_stat_activity"
        row = await (await one.execute(query)).fetchone()
        assert row is not None
        for _ in range(int(row[0] * 0.9) - row[1]):
            await stack.enter_async_context(
                await psycopg.AsyncConnection.connect(system.postgres.dsn)
            )
        yield


async def _keep_killing(system: System, prometheus: Prometheus, name: str) -> None:
    """Have a service end again and again, each time once its start has been seen; never returns."""
    port = system.services[name].spec.environment["HEALTH_PORT"]
    query = f'process_start_time_seconds{{instance="{LOOPBACK}:{port}"}}'
    seen: set[str] = set()

    async def is_seen() -> bool:
        values = {one["value"][1] for one in await prometheus.query(query)} - seen
        seen.update(values)
        return bool(values)

    while True:
        await eventually(is_seen, within=ENDS)
        await system.kill(name)
        await system.start(name)


async def test_no_api_and_no_exporter(watched: Watched) -> None:
    system, prometheus = watched.system, watched.prometheus.begin()
    await system.stop(*APIS)
    await watched.exporter.stop()
    await prometheus.fires("ApiDown", "ExporterDown", within=FIRES)
    await system.repair()
    await watched.exporter.start()
    await prometheus.ends("ApiDown", "ExporterDown", within=ENDS)
