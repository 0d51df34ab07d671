"""Looking at everything the system stands on, and judging what is found."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from redis.asyncio import Redis

from shared.administration.doctor import diagnosis, writes
from shared.administration.doctor.auth_facts import auth_facts, of_auth, unconfigured_auth
from shared.administration.doctor.diagnosis import Finding, PartitionFacts, Severity
from shared.administration.doctor.postgres_facts import postgres_facts
from shared.administration.doctor.replica_facts import examine_replica
from shared.domain.errors import TransientError
from shared.events.catalog import ORDERED
from shared.settings import PostgresSettings, ProjectSettings, ReplicaSettings, StreamsSettings
from shared.storage.admin_log import AdminLog
from shared.storage.dead_letters import DeadLetterRepository, LetterSelection
from shared.storage.partitions import PartitionRepository
from shared.storage.pool import Database
from shared.streams.inspection import Inspector
from shared.streams.ordering.layout import Divisions
from shared.streams.ordering.overview import WATCH, living_members
from shared.streams.redis_facts import redis_facts

# What takes longer hangs, and hangs for the services, too.
DEADLINE = timedelta(seconds=3)

Look = Callable[[], Awaitable[Sequence[Finding]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorSettings:
    """What services are set to. Without `project` the auth server is not known here."""

    streams: StreamsSettings
    postgres: PostgresSettings
    replica: ReplicaSettings
    project: ProjectSettings | None


class Doctor:
    """Examines the servers, and what is in them; one that is away is a finding.

    Each check may take `DEADLINE`: one that hangs has failed, and the others are made all the same.
    """

    def __init__(self, redis: Redis, database: Database, settings: DoctorSettings) -> None:
        self._redis = redis
        self._database = database
        self._settings = settings
        self._one_at_a_time = asyncio.Lock()
        self._ended_at = float("-inf")
        self._found: Sequence[Finding] = ()

    async def examine(self) -> Sequence[Finding]:
        """Examine everything; who asks meanwhile gets the same findings."""
        asked_at = time.monotonic()
        async with self._one_at_a_time:
            if self._ended_at < asked_at:
                found = await asyncio.gather(self.examine_servers(), self._of_auth())
                self._found = [finding for part in found for finding in part]
                self._ended_at = time.monotonic()
            return self._found

    async def examine_servers(self) -> Sequence[Finding]:
        """Examine all but the auth server."""
        found = await asyncio.gather(self._of_redis(), self._of_postgres(), self._of_partitions())
        return [finding for part in found for finding in part]

    async def _of_redis(self) -> Sequence[Finding]:
        try:
            async with asyncio.timeout(DEADLINE.total_seconds()):
                facts = await redis_facts(self._redis)
        except (TransientError, TimeoutError) as error:
            return diagnosis.unreachable("redis", error, setting="REDIS_URL or REDIS_HOST")
        found = await _look_at(
            {
                "redis writes": partial(writes.of_redis_writes, self._redis),
                "streams": self._of_streams,
                "orphaned groups": partial(writes.of_strangers, self._redis),
                "troubles": partial(writes.of_troubles, self._redis),
            }
        )
        nodes = [one for name, node in facts.items() for one in diagnosis.of_redis(node, at=name)]
        return [*nodes, *found]

    async def _of_streams(self) -> Sequence[Finding]:
        inspector = Inspector(self._redis, PartitionRepository(self._database))
        states = await inspector.sampled(diagnosis.all_streams(), over=None)
        limit = self._settings.streams.stream_max_bytes
        return [*diagnosis.of_streams(states), *writes.of_room(states, max_bytes=limit)]

    async def _of_postgres(self) -> Sequence[Finding]:
        try:
            async with asyncio.timeout(DEADLINE.total_seconds()):
                findings = diagnosis.of_postgres(await postgres_facts(self._database))
        except (TransientError, TimeoutError) as error:
            return diagnosis.unreachable("postgres", error, setting="SUPABASE_CONNECTION_STRING")
        if any(one.check == "migrations" and one.advice for one in findings):
            return findings  # tables may be missing
        database, settings = self._database, self._settings
        found = await _look_at(
            {
                "postgres locks": partial(writes.of_locks, database),
                "postgres writes": partial(writes.of_postgres_writes, database),
                "postgres transactions": partial(writes.of_transactions, database),
                "postgres indexes": partial(writes.of_indexes, database),
                "replica": partial(examine_replica, database, settings.postgres, settings.replica),
                "held events": partial(writes.of_held, database),
                "dead letters": self._of_dead_letters,
                "backup": self._of_backup,
            }
        )
        return [*findings, *found]

    async def _of_dead_letters(self) -> Sequence[Finding]:
        counts = await DeadLetterRepository(self._database).counts(LetterSelection())
        return [diagnosis.of_dead_letters(counts)]

    async def _of_backup(self) -> Sequence[Finding]:
        return [diagnosis.of_backup(await AdminLog(self._database).last_ended("backup"))]

    async def _of_auth(self) -> Sequence[Finding]:
        if self._settings.project is None:
            return unconfigured_auth()
        try:
            async with asyncio.timeout(DEADLINE.total_seconds()):
                return of_auth(await auth_facts(self._settings.project))
        except (TransientError, TimeoutError) as error:
            return diagnosis.unreachable("auth", error, setting="SUPABASE_URI")

    async def _of_partitions(self) -> Sequence[Finding]:
        try:
            # Members are watched for a while, which is no hang.
            async with asyncio.timeout((DEADLINE + WATCH).total_seconds()):
                facts = [await self._partition_facts(stream) for stream in sorted(ORDERED)]
        except (TransientError, TimeoutError):
            return []  # a server is away, or not migrated, which others have found
        return [finding for one in facts for finding in diagnosis.of_partitions(one)]

    async def _partition_facts(self, stream: str) -> PartitionFacts:
        store = PartitionRepository(self._database)
        return PartitionFacts(
            stream=stream,
            division=await store.division(stream),
            published=await Divisions(self._redis).published(stream),
            configured=self._settings.streams.stream_partitions,
            living=await living_members(store, self._redis, stream),
            partitions=(await store.survey(stream)).partitions,
        )


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
