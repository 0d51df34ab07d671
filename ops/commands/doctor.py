"""`ops doctor`."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial

import click

from ops import diagnosis, writes
from ops.auth_facts import auth_facts, of_auth, unconfigured_auth
from ops.diagnosis import Finding, PartitionFacts, Severity
from ops.output import as_json, print_json, print_table
from ops.replica_facts import examine_replica
from ops.running import Servers, open_servers, run, settings
from ops.storage.postgres_facts import postgres_facts
from shared.domain.errors import TransientError
from shared.events.catalog import ORDERED
from shared.settings import ProjectSettings, SettingsError, StreamsSettings, load
from shared.storage.admin_log import AdminLog
from shared.storage.dead_letters import DeadLetterRepository, LetterSelection
from shared.storage.partitions import PartitionRepository
from shared.streams.inspection import Inspector
from shared.streams.ordering.layout import Divisions
from shared.streams.ordering.overview import WATCH, living_members
from shared.streams.redis_facts import redis_facts

# What takes longer hangs, and hangs for the services, too.
DEADLINE = timedelta(seconds=3)

Look = Callable[[], Awaitable[Sequence[Finding]]]


@click.command("doctor")
@click.option("--strict", is_flag=True, help="End with 1 for warnings, too.")
@as_json
def command(*, as_json: bool, strict: bool) -> None:
    """Check everything the system stands on, and say what to do.

    Each check may take 3 s: one that hangs has failed. Ends with 1 when something has failed, with
    0 when there are warnings or nothing, and with 2 when the settings are wrong.
    """
    findings = run(_examine())
    if as_json:
        print_json(findings)
    else:
        print_table(
            ("", "check", "found", "what to do"),
            ((one.severity, one.check, one.detail, one.advice or "") for one in findings),
        )
    bad = {Severity.FAILURE, Severity.WARNING} if strict else {Severity.FAILURE}
    if any(one.severity in bad for one in findings):
        raise SystemExit(1)


async def _examine() -> list[Finding]:
    async with open_servers() as servers:
        found, of_project = await asyncio.gather(examine(servers), _auth())
    return [*found, *of_project]


async def examine(servers: Servers) -> list[Finding]:
    """Check both servers and what is in them; one that is away is a finding."""
    found = await asyncio.gather(_redis(servers), _postgres(servers), _partitions(servers))
    return [finding for part in found for finding in part]


async def _redis(servers: Servers) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(DEADLINE.total_seconds()):
            facts = await redis_facts(servers.redis)
    except (TransientError, TimeoutError) as error:
        return diagnosis.unreachable("redis", error, setting="REDIS_URL or REDIS_HOST")
    found = await _look_at(
        {
            "redis writes": partial(writes.of_redis_writes, servers),
            "streams": partial(_streams, servers),
            "orphaned groups": partial(writes.of_strangers, servers),
            "troubles": partial(writes.of_troubles, servers),
        }
    )
    nodes = [finding for name, one in facts.items() for finding in diagnosis.of_redis(one, at=name)]
    return [*nodes, *found]


async def _streams(servers: Servers) -> Sequence[Finding]:
    inspector = Inspector(servers.redis, PartitionRepository(servers.database))
    states = await inspector.sampled(diagnosis.all_streams(), over=None)
    limit = settings(StreamsSettings).stream_max_bytes
    return [*diagnosis.of_streams(states), *writes.of_room(states, max_bytes=limit)]


async def _postgres(servers: Servers) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(DEADLINE.total_seconds()):
            findings = diagnosis.of_postgres(await postgres_facts(servers.database))
    except (TransientError, TimeoutError) as error:
        return diagnosis.unreachable("postgres", error, setting="SUPABASE_CONNECTION_STRING")
    if any(one.check == "migrations" and one.advice for one in findings):
        return findings  # tables may be missing
    found = await _look_at(
        {
            "postgres locks": partial(writes.of_locks, servers),
            "postgres writes": partial(writes.of_postgres_writes, servers),
            "postgres transactions": partial(writes.of_transactions, servers),
            "postgres indexes": partial(writes.of_indexes, servers),
            "replica": partial(examine_replica, servers.database),
            "held events": partial(writes.of_held, servers),
            "dead letters": partial(_dead_letters, servers),
            "backup": partial(_backup, servers),
        }
    )
    return [*findings, *found]


async def _dead_letters(servers: Servers) -> Sequence[Finding]:
    counts = await DeadLetterRepository(servers.database).counts(LetterSelection())
    return [diagnosis.of_dead_letters(counts)]


async def _backup(servers: Servers) -> Sequence[Finding]:
    return [diagnosis.of_backup(await AdminLog(servers.database).last_ended("backup"))]


async def _auth() -> Sequence[Finding]:
    try:
        async with asyncio.timeout(DEADLINE.total_seconds()):
            return of_auth(await auth_facts(load(ProjectSettings)))
    except SettingsError:
        return unconfigured_auth()
    except (TransientError, TimeoutError) as error:
        return diagnosis.unreachable("auth", error, setting="SUPABASE_URI")


async def _look_at(checks: Mapping[str, Look]) -> list[Finding]:
    """Make all checks; one that hangs or fails is a finding of that name."""
    found = await asyncio.gather(*(_look(name, look) for name, look in checks.items()))
    return [finding for part in found for finding in part]


async def _look(name: str, look: Look) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(DEADLINE.total_seconds()):
            return await look()
    except (TransientError, TimeoutError) as error:
        advice = "It may be overloaded, or wait for a lock: see what else is found, and its log."
        detail = diagnosis.reason(error)
        return [Finding(check=name, severity=Severity.FAILURE, detail=detail, advice=advice)]


async def _partitions(servers: Servers) -> Sequence[Finding]:
    try:
        # Members are watched for a while, which is no hang.
        async with asyncio.timeout((DEADLINE + WATCH).total_seconds()):
            facts = [await _partition_facts(servers, stream) for stream in sorted(ORDERED)]
    except (TransientError, TimeoutError):
        return []  # a server is away, or not migrated, which others have found
    return [finding for one in facts for finding in diagnosis.of_partitions(one)]


async def _partition_facts(servers: Servers, stream: str) -> PartitionFacts:
    store = PartitionRepository(servers.database)
    return PartitionFacts(
        stream=stream,
        division=await store.division(stream),
        published=await Divisions(servers.redis).published(stream),
        configured=settings(StreamsSettings).stream_partitions,
        living=await living_members(store, stream),
        partitions=(await store.survey(stream)).partitions,
    )
