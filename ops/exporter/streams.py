"""Reads the streams, their groups and their Redis, and what a backlog there asks for."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from ops.exporter.readings import EVERY, Samples
from ops.exporter.replicas import WANTED, wanted_summarizers, wanted_syncers
from ops.running import Servers
from shared.domain.errors import UnavailableError
from shared.events.catalog import IMPORTS, LEADS, ORDERED, STREAMS, SUMMARIES, groups_of
from shared.events.envelope import now
from shared.events.partitions import Division
from shared.observability.metrics import family
from shared.streams.codec import entry_id
from shared.streams.inspection import GroupState, Inspector, StreamState
from shared.streams.model_pauses import ModelPauses
from shared.streams.ordering.layout import Divisions
from shared.streams.ordering.overview import in_use
from shared.streams.publisher import check_writable
from shared.streams.redis_facts import RedisFacts, redis_facts

# A consumer asks for more at least once a second, or says that it still works on what it has.
LIVING = timedelta(seconds=30)
# Redis serves nobody else while it counts: a thousand take it 1 to 2 ms. Past these its own figure
# is believed, where there is one.
PAGE = 1_000
# What is one stream in Redis has one partition.
WHOLE = "0"
NEVER = timedelta(0)

STREAM_BYTES = family(
    "leads_stream_bytes",
    "gauge",
    "Memory that a stream's partition takes up. The limit is for all of a stream's together.",
    ("stream", "partition"),
)
STREAM_LIMIT = family(
    "leads_stream_limit_bytes",
    "gauge",
    "Memory that all partitions of a stream together may take up (STREAM_MAX_BYTES): past it "
    "events are refused.",
    ("stream",),
)
BACKLOG = family(
    "leads_backlog_events",
    "gauge",
    "Events that a group has yet to finish: undelivered, pending (being worked on), retry (waiting "
    "outside the stream) or held (failed for now, or behind one that did).",
    ("stream", "partition", "group", "state"),
)
OLDEST = family(
    "leads_backlog_oldest_seconds",
    "gauge",
    "How long ago the oldest of these events was accepted; 0 when there is none.",
    ("stream", "partition", "group", "state"),
)
UNKNOWN = family(
    "leads_backlog_unknown",
    "gauge",
    "1 when more events are undelivered than can be counted, else 0.",
    ("stream", "group"),
)
CONSUMERS = family(
    "leads_consumers",
    "gauge",
    "Living consumers of a group: processes, for a stream with partitions.",
    ("stream", "group"),
)
TRIM_BLOCKED = family(
    "leads_trim_blocked_seconds",
    "gauge",
    "For how long entries that should have been trimmed were kept, as a group has not finished "
    "them.",
    ("stream", "group"),
)
OPERATIONS = family(
    "leads_operations_open",
    "gauge",
    "Operations that were accepted and have not ended: import, summary, sync.",
    ("kind",),
)
OPERATION_OLDEST = family(
    "leads_operation_oldest_seconds",
    "gauge",
    "How long ago the oldest open operation was accepted; 0 when there is none.",
    ("kind",),
)
WRITABLE = family(
    "leads_server_writable",
    "gauge",
    "1 when a server took a write at the last try, 0 when it refused or did not answer.",
    ("server",),
)
MEMORY = family(
    "leads_redis_memory_ratio",
    "gauge",
    "Memory that a Redis uses, of its maxmemory; none without a limit.",
    ("server",),
)
SKEW = family(
    "leads_clock_skew_seconds",
    "gauge",
    "How far a server's clock is from this host's, at least, in either direction.",
    ("server",),
)


@dataclass(frozen=True, slots=True)
class Part:
    """What is one stream in Redis: a whole stream, or a partition of one."""

    stream: str
    label: str
    state: StreamState


class RedisSource:
    """Reads the streams' Redis. `max_bytes` and `retention` are what the services are set to."""

    name = "redis"
    every = EVERY

    def __init__(
        self, servers: Servers, *, max_bytes: int, retention: timedelta, concurrency: int
    ) -> None:
        self._redis = servers.redis
        self._inspector = Inspector(servers.redis, page=PAGE)
        self._divisions = Divisions(servers.redis)
        self._pauses = ModelPauses(servers.redis)
        self._max_bytes = max_bytes
        self._retention = retention
        self._concurrency = concurrency

    async def read(self, samples: Samples) -> None:
        """Add what Redis says, and what is in it."""
        samples[WRITABLE][self.name,] = 0
        add_server(samples, await redis_facts(self._redis), server=self.name)
        samples[WRITABLE][self.name,] = await self._is_writable()
        for stream in STREAMS:
            division = await self._divisions.published(stream) if stream in ORDERED else None
            parts = await self._parts(stream, division)
            self._add_stream(samples, stream, parts)
            if stream == LEADS:
                number = _partitions(division)
                backlogs = [_undelivered(one, group) for one in parts for group in groups_of(LEADS)]
                samples[WANTED]["syncer",] = wanted_syncers(backlogs, partitions=number)
        samples[WANTED]["summarizer",] = await self._wanted_summarizers(samples)

    async def _is_writable(self) -> bool:
        try:
            await check_writable(self._redis)
        except UnavailableError:
            return False
        return True

    async def _parts(self, stream: str, division: Division | None) -> Sequence[Part]:
        """Return what a stream consists of; parts from before only while anything is in them."""
        if division is None:
            [state] = await self._inspector.look_at(stream)
            return [Part(stream, WHOLE, state)]
        layouts = (division.last, in_use(division))
        current = {name for layout in layouts if layout is not None for name in layout.names}
        parts = [
            Part(stream, partition_label(state.name), state)
            for state in await self._inspector.look_at(*division.names)
        ]
        return [one for one in parts if one.state.name in current or one.state.length]

    def _add_stream(self, samples: Samples, stream: str, parts: Sequence[Part]) -> None:
        for one in parts:
            samples[STREAM_BYTES][stream, one.label] = one.state.memory
        if any(groups_of(stream)):
            samples[STREAM_LIMIT][stream,] = self._max_bytes
        is_large = sum(one.state.memory for one in parts) >= self._max_bytes // 2
        there_are = [group.name for one in parts for group in one.state.groups]
        for group in dict.fromkeys((*groups_of(stream), *there_are)):
            for one in parts:
                _add_backlog(samples, one, group)
            is_known = group in groups_of(stream)
            samples[UNKNOWN][stream, group] = any(_undelivered(one, group) is None for one in parts)
            # Once a stream is large its history makes way, but for a group that nobody knows.
            kept = NEVER if is_large and not is_known else self._retention
            oldest = max(_unfinished(one, group) for one in parts)
            samples[TRIM_BLOCKED][stream, group] = max(0.0, (oldest - kept).total_seconds())
            if stream not in ORDERED and is_known:
                samples[CONSUMERS][stream, group] = _living(parts, group)
        if stream == IMPORTS:
            _add_imports(samples, parts)

    async def _wanted_summarizers(self, samples: Samples) -> float:
        [group] = groups_of(SUMMARIES)
        backlog = None
        if not samples[UNKNOWN][SUMMARIES, group]:
            states = ("undelivered", "pending")
            backlog = int(sum(samples[BACKLOG][SUMMARIES, WHOLE, group, one] for one in states))
        wanted = wanted_summarizers(backlog, concurrency=self._concurrency)
        there_are = max(1.0, samples[CONSUMERS][SUMMARIES, group])
        # To know that takes a walk through all keys: only where it would matter.
        if wanted > there_are and await self._pauses.are_calls_waiting():
            return there_are
        return wanted


def add_server(samples: Samples, facts: dict[str, RedisFacts], *, server: str) -> None:
    """Add what a Redis says of itself, or each node of a cluster by its address."""
    for address, one in facts.items():
        name = f"{server} {address}".rstrip()
        if one.memory_limit:
            samples[MEMORY][name,] = one.memory / one.memory_limit
        samples[SKEW][name,] = skew(one.ahead, one.uncertainty)


def skew(ahead: timedelta, uncertainty: timedelta) -> float:
    """Return by how many seconds two clocks differ for certain."""
    return max(0.0, (abs(ahead) - uncertainty).total_seconds())


def partition_label(name: str) -> str:
    """Return what tells a partition's stream from the others: `1.0` of `stream:leads:{1.0}`."""
    match = re.search(r"\{(.+)\}$", name)
    return WHOLE if match is None else match[1]


def _add_backlog(samples: Samples, part: Part, name: str) -> None:
    group = _group(part, name)
    figures: dict[str, tuple[int | None, timedelta | None]] = {
        "undelivered": (_undelivered(part, name), _oldest_undelivered(part, name)),
        "pending": (0, None) if group is None else (group.pending, group.oldest_pending),
        "retry": (0 if group is None else group.retries, None),
    }
    for state, (number, oldest) in figures.items():
        is_usual = state == "undelivered" or part.stream not in ORDERED
        if number is not None and (number or is_usual):
            samples[BACKLOG][part.stream, part.label, name, state] = number
        if state != "retry" and (number or is_usual):
            seconds = (oldest or NEVER).total_seconds()
            samples[OLDEST][part.stream, part.label, name, state] = seconds


def _group(part: Part, name: str) -> GroupState | None:
    return next((group for group in part.state.groups if group.name == name), None)


def _undelivered(part: Part, name: str) -> int | None:
    """Return how much a group has to begin with: all of a stream that does not know it yet."""
    group = _group(part, name)
    return part.state.length if group is None else group.undelivered


def _oldest_undelivered(part: Part, name: str) -> timedelta | None:
    group = _group(part, name)
    if group is not None:
        return group.oldest_undelivered
    first = part.state.first
    if first is None:
        return None
    return max(NEVER, timedelta(seconds=now().timestamp() - entry_id(first)[0] / 1000))


def _unfinished(part: Part, name: str) -> timedelta:
    group = _group(part, name)
    pending = None if group is None else group.oldest_pending
    return max(_oldest_undelivered(part, name) or NEVER, pending or NEVER)


def _living(parts: Sequence[Part], name: str) -> int:
    groups = [_group(one, name) for one in parts]
    consumers = [one for group in groups if group is not None for one in group.consumers]
    return sum(one.idle < LIVING for one in consumers)


def _partitions(division: Division | None) -> int:
    layout = None if division is None else in_use(division)
    return 1 if layout is None else layout.partitions


def _add_imports(samples: Samples, parts: Sequence[Part]) -> None:
    [name] = groups_of(IMPORTS)
    [part] = parts
    group = _group(part, name)
    others = 0 if group is None else group.pending + (group.retries or 0)
    undelivered = _undelivered(part, name)
    if undelivered is not None:
        samples[OPERATIONS]["import",] = undelivered + others
    samples[OPERATION_OLDEST]["import",] = _unfinished(part, name).total_seconds()
