"""`ops doctor`."""

import contextlib

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
from shared.streams.inspection import Inspector, redis_facts
from shared.streams.ordering.layout import Divisions
from shared.streams.ordering.overview import living_members


@click.command("doctor")
@as_json
def command(*, as_json: bool) -> None:
    """Check everything the system stands on, and say what to do.

    Ends with 1 when something has failed; warnings leave it at 0.
    """
    findings = run(_examine())
    if as_json:
        print_json(findings)
    else:
        print_table(
            ("", "check", "found", "what to do"),
            ((one.severity, one.check, one.detail, one.advice or "") for one in findings),
        )
    if any(one.severity is Severity.FAILURE for one in findings):
        raise SystemExit(1)


async def _examine() -> list[Finding]:
    async with open_servers() as servers:
        return [*await examine(servers), *await _auth()]


async def examine(servers: Servers) -> list[Finding]:
    """Check both servers and what is in them; one that is away is a finding."""
    return [*await _redis(servers), *await _postgres(servers), *await _partitions(servers)]


async def _redis(servers: Servers) -> list[Finding]:
    limit = settings(StreamsSettings).stream_max_bytes
    try:
        facts = await redis_facts(servers.redis)
        inspector = Inspector(servers.redis, PartitionRepository(servers.database))
        states = await inspector.sampled(diagnosis.all_streams(), over=None)
        return [
            *(found for name, one in facts.items() for found in diagnosis.of_redis(one, at=name)),
            await writes.of_redis_writes(servers),
            *diagnosis.of_streams(states),
            *writes.of_room(states, max_bytes=limit),
            *await writes.of_strangers(servers),
            *await writes.of_troubles(servers),
        ]
    except TransientError as error:
        return diagnosis.unreachable("redis", error, setting="REDIS_URL or REDIS_HOST")


async def _postgres(servers: Servers) -> list[Finding]:
    try:
        findings = diagnosis.of_postgres(await postgres_facts(servers.database))
        if any(one.check == "migrations" and one.advice for one in findings):
            return findings  # tables may be missing
        findings += await writes.of_postgres_writes(servers)
    except TransientError as error:
        return diagnosis.unreachable("postgres", error, setting="SUPABASE_CONNECTION_STRING")
    findings += await examine_replica(servers.database)
    with contextlib.suppress(TransientError):  # such as a lock, which has been found
        findings += await writes.of_held(servers)
        counts = await DeadLetterRepository(servers.database).counts(LetterSelection())
        findings.append(diagnosis.of_dead_letters(counts))
        findings.append(diagnosis.of_backup(await AdminLog(servers.database).last_ended("backup")))
    return findings


async def _auth() -> list[Finding]:
    try:
        return of_auth(await auth_facts(load(ProjectSettings)))
    except SettingsError:
        return unconfigured_auth()
    except TransientError as error:
        return diagnosis.unreachable("auth", error, setting="SUPABASE_URI")


async def _partitions(servers: Servers) -> list[Finding]:
    try:
        facts = [await _partition_facts(servers, stream) for stream in sorted(ORDERED)]
    except TransientError:
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
