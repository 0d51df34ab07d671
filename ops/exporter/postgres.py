"""Reads PostgreSQL and what it keeps for all: owners, held events, dead letters, operations."""

import time
from datetime import timedelta
from uuid import UUID

from ops.exporter.readings import EVERY, Samples
from ops.exporter.streams import (
    BACKLOG,
    CONSUMERS,
    OLDEST,
    OPERATION_OLDEST,
    OPERATIONS,
    SKEW,
    WRITABLE,
    partition_label,
    skew,
)
from ops.running import Servers
from ops.storage.shared_state import SharedState, shared_state
from shared.administration.doctor.postgres_facts import PostgresFacts, postgres_facts
from shared.administration.doctor.write_facts import blockers, write_and_undo
from shared.domain.errors import TransientError
from shared.events.catalog import ORDERED, STREAMS, groups_of
from shared.events.partitions import Layout, Survey
from shared.observability.metrics import family
from shared.storage.partitions import PartitionRepository
from shared.streams.ordering.overview import in_use, living_members

# A write so long that a file must grow takes 32 kB of the log each time: now and then.
LONG_WRITE_EVERY = timedelta(minutes=1)
SHORT, LONG = 1, 1_000
# What the runtime itself parks events for: a growth from nothing shows, too.
REASONS = ("attempts", "crash", "error")

CONNECTIONS = family(
    "leads_postgres_connections_ratio",
    "gauge",
    "Connections to PostgreSQL, of its max_connections.",
)
LOCK_WAIT = family(
    "leads_postgres_lock_wait_seconds",
    "gauge",
    "Age of the oldest transaction that others of this system wait for, or that has locked a table "
    "of it; 0 without one.",
)
PENDING = family(
    "leads_schema_pending",
    "gauge",
    "Migrations that the exporter's version has, and the database does not have yet.",
)
OWNER = family(
    "leads_partition_owner",
    "gauge",
    "1 when a living syncer owns the partition, else 0.",
    ("stream", "partition"),
)
LETTERS = family(
    "leads_dead_letters",
    "gauge",
    "Dead letters that wait for someone to retry or discard them.",
    ("stream", "group", "reason"),
)
LAST_SUCCESS = family(
    "leads_last_success_timestamp_seconds",
    "gauge",
    "When a task succeeded last: sync, and backup (its beginning). None when it never did.",
    ("task",),
)


class PostgresSource:
    """Reads PostgreSQL. The server comes first: a lock on a table leaves that to be seen."""

    name = "postgres"
    every = EVERY

    def __init__(self, servers: Servers) -> None:
        self._database = servers.database
        self._store = PartitionRepository(servers.database)
        self._redis = servers.redis
        self._beats: dict[str, dict[UUID, int]] = {}
        self._long_write_due = 0.0

    async def read(self, samples: Samples) -> None:
        """Add what the server says, and what is in it."""
        samples[WRITABLE][self.name,] = 0
        facts = await postgres_facts(self._database)
        _add_server(samples, facts)
        locks = await blockers(self._database, older=timedelta(0))
        samples[LOCK_WAIT][()] = max((one.age.total_seconds() for one in locks), default=0)
        if facts.missing:
            # Tables may be missing, also the one that is written to.
            del samples[WRITABLE][self.name,]
            return
        samples[WRITABLE][self.name,] = await self._is_writable()
        for stream in ORDERED:
            await self._add_partitions(samples, stream)
        _add_state(samples, await shared_state(self._database))

    async def _is_writable(self) -> bool:
        if time.monotonic() < self._long_write_due:
            return await self._takes(SHORT)
        is_taken = await self._takes(LONG)
        if is_taken:  # else the next round tries again: one that failed once says little
            self._long_write_due = time.monotonic() + LONG_WRITE_EVERY.total_seconds()
        return is_taken

    async def _takes(self, length: int) -> bool:
        try:
            await write_and_undo(self._database, length=length)
        except TransientError:
            return False
        return True

    async def _add_partitions(self, samples: Samples, stream: str) -> None:
        division = await self._store.division(stream)
        layout = None if division is None else in_use(division)
        survey = await self._store.survey(stream)
        living = await self._living(stream, survey)
        for group in groups_of(stream):
            samples[CONSUMERS][stream, group] = len(living)
        for row in survey.partitions:
            if layout is not None and row.layout == layout.number:
                label = partition_label(layout.name(row.number))
                samples[OWNER][stream, label] = row.owner in living
                for group in groups_of(stream):
                    samples[BACKLOG][stream, label, group, "held"] = 0
                    samples[OLDEST][stream, label, group, "held"] = 0

    async def _living(self, stream: str, survey: Survey) -> frozenset[UUID]:
        """Return the members whose beat has moved since the round before, or who are new."""
        beats = {member.token: member.beat for member in survey.members}
        before = self._beats.get(stream)
        self._beats[stream] = beats
        if before is None:
            return await living_members(self._store, self._redis, stream)
        return frozenset(token for token, beat in beats.items() if before.get(token) != beat)


def _add_server(samples: Samples, facts: PostgresFacts) -> None:
    samples[CONNECTIONS][()] = facts.connections / facts.max_connections
    samples[SKEW]["postgres",] = skew(facts.ahead, facts.uncertainty)
    samples[PENDING][()] = len(facts.missing)


def _add_state(samples: Samples, state: SharedState) -> None:
    for held in state.held:
        label = partition_label(Layout(held.stream, held.layout, 0).name(held.number))
        for group in groups_of(held.stream):
            samples[BACKLOG][held.stream, label, group, "held"] = held.entries
            samples[OLDEST][held.stream, label, group, "held"] = max(0.0, held.oldest)
    for stream in STREAMS:
        for group in groups_of(stream):
            samples[LETTERS].update({(stream, group, reason): 0 for reason in REASONS})
    for one in state.letters:
        samples[LETTERS][one.stream, one.consumer_group, one.reason] = one.letters
    for kind in state.operations:
        samples[OPERATIONS][kind.kind,] = kind.open
        samples[OPERATION_OLDEST][kind.kind,] = kind.oldest or 0
    for task, succeeded_at in state.succeeded.items():
        samples[LAST_SUCCESS][task,] = succeeded_at.timestamp()
