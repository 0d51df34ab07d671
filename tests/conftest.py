"""Real servers for every test: one PostgreSQL and one Valkey a session, clean for each test."""

import asyncio
import contextlib
import functools
import gc
import os
from collections.abc import AsyncGenerator, Callable, Generator
from datetime import timedelta

import psycopg
import pytest
import structlog
import uvloop
from hypothesis import HealthCheck, settings
from pydantic import SecretStr
from redis.asyncio import Redis
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling
from yarl import URL

from devstack.data_directory import scratch_directory
from devstack.servers.postgres import EmbeddedPostgres
from devstack.servers.valkey import EmbeddedValkey
from shared.events.catalog import LEADS
from shared.events.partitions import Division, Layout
from shared.lifecycle import COLLECT_AFTER
from shared.redis_connections import open_redis
from shared.settings import CacheSettings, PostgresSettings, StreamsSettings
from shared.storage.migrations.runner import migrate
from shared.storage.pool import Database, open_database
from shared.streams.ordering.layout import Divisions
from tests.faults.scale import OF_THE_SYSTEM
from tests.support.clusters import Cluster, open_cluster
from tests.support.forked_process import fork_server
from tests.support.fresh_databases import FreshDatabases
from tests.support.pgbouncer import PgBouncer
from tests.support.tcp_proxy import TcpProxy

# As a first start would divide it, with fewer partitions to look at.
LEADS_DIVISION = Division([Layout(LEADS, 1, 3)], is_open=True)

PATIENCE = timedelta(seconds=15)

# The tests of such a folder, or whose files begin so, share one running system; some files bring
# their own.
SHARE_A_SYSTEM = {
    "tests/contract/": ("tests/contract/",),
    "tests/e2e/": ("tests/e2e/",),
    "tests/faults/system": tuple(f"tests/faults/test_{promise}_" for promise in OF_THE_SYSTEM),
}
BRING_THEIR_OWN = ("test_alerts.py", "test_bench.py", "test_second_system.py")


# A machine under load takes its time, and what passed once passes again.
settings.register_profile(
    "ours", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ours")

# Each traceback in the log would be drawn in colours with the values of all variables, which takes
# longer than most tests.
structlog.dev.ConsoleRenderer.get_active().exception_formatter = structlog.dev.plain_traceback

# Until all tests are known: imports leave next to no garbage, and to look for it takes a sixth of
# the time. What stays to the end is not looked at either.
gc.disable()


def pytest_configure(config: pytest.Config) -> None:
    """Run one server of forks for all processes of this run."""
    if not hasattr(config, "workerinput"):
        stack = contextlib.ExitStack()
        stack.enter_context(fork_server())
        config.add_cleanup(stack.close)


def pytest_collection_finish() -> None:
    gc.enable()
    gc.freeze()
    # As in a service: the usual 700 new objects are there after each answer.
    gc.set_threshold(COLLECT_AFTER)


class ByFile(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """Hands whole files to the processes of `pytest -n`, and whole folders that share a system."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if file.endswith(BRING_THEIR_OWN):
            return file
        shared = (name for name, begins in SHARE_A_SYSTEM.items() if file.startswith(begins))
        return next(shared, file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling:
    return ByFile(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have measured of the code, also those that ran in other processes."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in report.user_properties:
                if name == "measure" and report.when == "call":
                    terminalreporter.ensure_newline()
                    terminalreporter.write_line(str(value))


@pytest.fixture(scope="session")
def _asyncio_loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Run tests on the event loop that services have, which takes a tenth less of their CPU.

    The plugin's hook for this gives the factory to tests that are coroutines only, so that the
    session's fixtures are made anew wherever another test stands between them.
    """
    return uvloop.new_event_loop


@pytest.fixture(scope="session", autouse=True)
def no_certificates(tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    """No test speaks TLS, and to load the machine's certificates takes an HTTP client 40 ms."""
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("SSL_CERT_FILE", raising=False)
        environment.setenv("SSL_CERT_DIR", str(tmp_path_factory.mktemp("certificates")))
        yield


@pytest.fixture(scope="session", autouse=True)
def cheap_passwords() -> Generator[None]:
    """The stand-in's hashes cost 40 ms each, as they should where a password may be guessed."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("STANDIN_PASSWORD_COST", "16")
        yield


@pytest.fixture(scope="session")
async def postgres() -> AsyncGenerator[EmbeddedPostgres]:
    """Yield a server whose database `leads` is migrated and used as a template only."""
    with scratch_directory() as directory:
        async with EmbeddedPostgres(directory, fsync=False) as server:
            migrate(server.dsn)
            async with await psycopg.AsyncConnection.connect(server.dsn, autocommit=True) as one:
                # It would come at any time, and count among a test's sessions.
                await one.execute("ALTER SYSTEM SET autovacuum = off")
                # No time that the system shows depends on the zone of a session.
                await one.execute("ALTER SYSTEM SET timezone = 'Asia/Kathmandu'")
                await one.execute("SELECT pg_reload_conf()")
            yield server


@pytest.fixture(scope="session")
async def fresh_databases(postgres: EmbeddedPostgres) -> AsyncGenerator[FreshDatabases]:
    databases = FreshDatabases(postgres)
    yield databases
    await databases.close()


@pytest.fixture
async def postgres_dsn(fresh_databases: FreshDatabases) -> AsyncGenerator[str]:
    """Yield the address of a fresh, migrated database."""
    async with fresh_databases.fresh() as dsn:
        yield dsn


@pytest.fixture(scope="session")
async def pooler(postgres: EmbeddedPostgres) -> AsyncGenerator[PgBouncer | None]:
    """Yield a pooler for all tests to go by, with POOLED=1."""
    if os.environ.get("POOLED") != "1":
        yield None
        return
    with scratch_directory() as directory:
        async with PgBouncer(directory, postgres.dsn) as running:
            yield running


# Settings are frozen, and made once for an address: to look for each of them in the environment
# takes a millisecond.
@functools.cache
def _postgres_settings(dsn: str) -> PostgresSettings:
    return PostgresSettings(supabase_connection_string=SecretStr(dsn))


@functools.cache
def _streams_settings(url: str) -> StreamsSettings:
    return StreamsSettings(redis_url=SecretStr(url))


def _patient(settings: StreamsSettings) -> StreamsSettings:
    """Return settings for what waits longer than a service does, as a machine may be busy."""
    return settings.model_copy(update={"redis_timeout": PATIENCE})


@pytest.fixture
def postgres_settings(postgres_dsn: str, pooler: PgBouncer | None) -> PostgresSettings:
    return _postgres_settings(postgres_dsn if pooler is None else pooler.pooled(postgres_dsn))


@pytest.fixture
async def database(postgres_settings: PostgresSettings) -> AsyncGenerator[Database]:
    async with open_database(postgres_settings) as opened:
        yield opened


@pytest.fixture(scope="session")
async def valkey(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[EmbeddedValkey]:
    async with EmbeddedValkey(tmp_path_factory.mktemp("valkey"), appendfsync="no") as server:
        yield server


@pytest.fixture
async def redis_url(valkey: EmbeddedValkey) -> str:
    """Return the address of a Valkey with nothing in it but how `stream:leads` is divided."""
    async with open_redis(_patient(_streams_settings(valkey.url))) as client:
        await client.flushall()
        await Divisions(client).publish(LEADS_DIVISION)
    return valkey.url


@pytest.fixture
async def link(redis_url: str) -> AsyncGenerator[TcpProxy]:
    """Yield another way to the same Valkey, which can be cut."""
    port = URL(redis_url).port
    assert port is not None
    async with TcpProxy(port) as proxy:
        yield proxy


@pytest.fixture
def streams_settings(redis_url: str) -> StreamsSettings:
    return _streams_settings(redis_url)


@pytest.fixture(scope="session")
def cache_settings() -> CacheSettings:
    return CacheSettings()


@pytest.fixture
async def redis(streams_settings: StreamsSettings) -> AsyncGenerator[Redis]:
    """Yield the test's own client, more patient than a service where a machine is busy."""
    async with open_redis(_patient(streams_settings)) as client:
        yield client


@pytest.fixture(scope="session")
async def running_cluster() -> AsyncGenerator[Cluster]:
    with scratch_directory() as directory:
        async with open_cluster(directory) as cluster:
            yield cluster


@pytest.fixture
async def cluster(running_cluster: Cluster) -> Cluster:
    """Return a whole cluster with nothing in it but how `stream:leads` is divided."""
    await running_cluster.heal()
    await running_cluster.clear()
    async with open_redis(running_cluster.settings) as client:
        await Divisions(client).publish(LEADS_DIVISION)
    return running_cluster


@pytest.fixture
async def cluster_client(cluster: Cluster) -> AsyncGenerator[Redis]:
    async with open_redis(cluster.settings) as client:
        yield client
