"""Whatever makes creates 202 or 503 is found by the doctor, which says what to do."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from yarl import URL

from ops.running import Servers, doctor_settings
from shared.administration.doctor.diagnosis import Finding, Severity
from shared.administration.doctor.examination import Doctor
from shared.administration.doctor.writes import of_transactions
from shared.events.catalog import LEADS
from shared.redis_connections import open_redis
from shared.settings import PostgresSettings, StreamsSettings
from shared.storage.partitions import PartitionRepository
from shared.storage.pool import Database
from shared.streams.troubles import Troubles
from tests.conftest import LEADS_DIVISION
from tests.integration.ops.conftest import Ops
from tests.support import outage_states as states
from tests.support.outage_states import NARROW, State
from tests.support.tcp_proxy import TcpProxy

FAILURE, WARNING = Severity.FAILURE, Severity.WARNING


@pytest.fixture
async def servers(
    redis: Redis,
    database: Database,
    redis_url: str,
    postgres_settings: PostgresSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> Servers:
    monkeypatch.setenv("ENV_FILE", "")
    monkeypatch.setenv("STREAM_MAX_BYTES", str(NARROW))
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("SUPABASE_CONNECTION_STRING", postgres_settings.dsn)
    partitions = LEADS_DIVISION.last.partitions
    await PartitionRepository(database).divide(LEADS, partitions=partitions, is_open=True)
    return Servers(redis, database)


async def examine(servers: Servers) -> Sequence[Finding]:
    doctor = Doctor(servers.redis, servers.database, doctor_settings())
    return await doctor.examine_servers()


async def found(servers: Servers, check: str) -> Finding:
    [finding] = [one for one in await examine(servers) if one.check == check]
    return finding


@pytest.mark.parametrize(
    ("state", "check", "severity", "advice"),
    [
        (states.replica, "redis writes", FAILURE, "Name the master"),
        (states.out_of_memory, "redis writes", FAILURE, "raise maxmemory"),
        (states.too_few_replicas, "redis writes", FAILURE, "min-replicas-to-write"),
        (states.failed_snapshot, "redis writes", FAILURE, "make room there"),
        (states.forbidden_streams, "redis writes", FAILURE, "ACL"),
        (states.full_partition, "stream:leads room", FAILURE, "raise STREAM_MAX_BYTES"),
        (states.full_stream, "stream:leads room", FAILURE, "refused (503)"),
        (states.full_summaries, "stream:summaries room", FAILURE, "raise STREAM_MAX_BYTES"),
        (states.orphaned_group, "stream:leads:{1.2} backfill", WARNING, "XGROUP DESTROY"),
        (states.closed, "stream:leads partitions", WARNING, "Nothing is published"),
        (states.held_key, "held events", WARNING, "The syncers' log"),
        (states.full_disk, "postgres writes", FAILURE, "disk is full"),
        (states.really_full_disk, "postgres writes", FAILURE, "disk is full"),
        (states.read_only, "postgres writes", FAILURE, "read-only"),
        (states.invalid_index, "postgres indexes", WARNING, "REINDEX INDEX CONCURRENTLY"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_a_state_is_found_until_it_is_over(
    servers: Servers, state: State, check: str, severity: Severity, advice: str
) -> None:
    async with state(servers):
        finding = await found(servers, check)
        assert (finding.severity, finding.advice is not None) == (severity, True), finding
        assert advice in str(finding.advice)
    findings = [one for one in await examine(servers) if one.check == check]
    assert all(one.severity is Severity.OK for one in findings), findings


@pytest.mark.parametrize("state", [states.locked, states.locked_whole])
async def test_who_has_locked_a_table_is_named(servers: Servers, state: State) -> None:
    async with state(servers):
        async with servers.database.connection() as connection:
            await connection.execute("SELECT pg_sleep(2.1)")
        finding = await found(servers, "postgres locks")
        assert finding.severity is WARNING
        assert "pg_terminate_backend(" in str(finding.advice)
        assert "idle in transaction" in finding.detail
    assert (await found(servers, "postgres locks")).severity is Severity.OK


async def test_what_a_process_says_that_it_waits_for_is_told(servers: Servers) -> None:
    troubles = Troubles(servers.redis)
    await troubles.tell("syncer:here:1", LEADS, ["PostgreSQL is unavailable: odd"], ["is filling"])
    told = [one for one in await examine(servers) if one.check == "syncer:here:1"]
    assert [(one.severity, one.detail) for one in told] == [
        (FAILURE, "stream:leads: PostgreSQL is unavailable: odd"),
        (WARNING, "stream:leads: is filling"),
    ]
    await troubles.tell("syncer:here:1", LEADS, [])
    assert not [one for one in await examine(servers) if one.check == "syncer:here:1"]


async def test_a_process_that_died_in_trouble_is_forgotten(servers: Servers) -> None:
    await Troubles(servers.redis).tell("syncer:here:1", LEADS, ["odd"])
    [key] = await servers.redis.smembers("{troubles}")
    assert 0 < await servers.redis.pttl(key) <= timedelta(seconds=10) / timedelta(milliseconds=1)
    await servers.redis.delete(key)  # as time does
    assert await Troubles(servers.redis).told() == []


@pytest.mark.parametrize(
    ("statement", "held_up"),
    [
        ("SELECT count(*) FROM leads.lead", "cleaned up"),
        ("SELECT 1 FROM leads.layout FOR UPDATE", "updatedAfter"),
        ("INSERT INTO leads.admin_action (actor, action, detail) VALUES ('', '', '{}')", "updated"),
    ],
)
async def test_a_transaction_that_was_left_open_is_named(
    servers: Servers, statement: str, held_up: str
) -> None:
    async with servers.database.transaction() as connection:
        await connection.execute(statement)
        assert (await found(servers, "postgres transactions")).severity is Severity.OK  # it is new
        [finding] = await of_transactions(servers.database, older=timedelta(0))
    assert finding.severity is WARNING
    assert held_up in str(finding.advice)
    assert "pg_terminate_backend(" in str(finding.advice)
    [finding] = await of_transactions(servers.database, older=timedelta(0))
    assert finding.severity is Severity.OK


async def test_what_hangs_has_failed_and_the_rest_is_looked_at(servers: Servers) -> None:
    async with states.locked_letters(servers):
        findings = {one.check: one for one in await examine(servers)}
    assert (findings["dead letters"].severity, findings["dead letters"].detail) == (
        FAILURE,
        "no answer in time",
    )
    assert findings["postgres writes"].severity is Severity.OK
    assert findings["redis writes"].severity is Severity.OK


async def test_a_server_that_hangs_is_found_in_time(
    servers: Servers, redis_url: str, link: TcpProxy
) -> None:
    url = str(URL(redis_url).with_port(link.port))
    patient = StreamsSettings(redis_url=SecretStr(url), redis_timeout=timedelta(minutes=1))
    async with open_redis(patient) as redis:
        await redis.ping()
        link.swallow()
        async with asyncio.timeout(20):  # each check has 3 s
            findings = {one.check: one for one in await examine(Servers(redis, servers.database))}
    assert (findings["redis"].severity, findings["redis"].detail) == (FAILURE, "no answer in time")
    assert findings["postgres writes"].severity is Severity.OK


async def test_how_it_ends_is_for_scripts(ops: Ops, redis: Redis) -> None:
    # The test's servers are made to be fast, which is a warning.
    assert await redis.ping()
    assert (await ops("doctor")).code == 0
    assert (await ops("doctor", "--strict")).code == 1
    ops.environment["SUPABASE_CONNECTION_STRING"] = ""
    ended = await ops("doctor")
    assert (ended.code, "SUPABASE_CONNECTION_STRING" in ended.stderr) == (2, True)
