"""Whatever makes creates 202 or 503 is found by the doctor, which says what to do."""

from datetime import timedelta

import pytest
from redis.asyncio import Redis

from ops.commands.doctor import examine
from ops.diagnosis import Finding, Severity
from ops.running import Servers
from shared.events.catalog import LEADS
from shared.settings import PostgresSettings
from shared.storage.partitions import PartitionRepository
from shared.storage.pool import Database
from shared.streams.troubles import Troubles
from tests.conftest import LEADS_DIVISION
from tests.support import outage_states as states
from tests.support.outage_states import NARROW, State

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
