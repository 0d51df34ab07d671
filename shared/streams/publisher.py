"""Publishing events: whatever is waiting goes out in one pipelined write."""

import asyncio
import contextlib
import itertools
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import orjson
import structlog
from redis.asyncio import Redis
from redis.typing import EncodableT, FieldT

from shared.background import background, repeat
from shared.batcher import Batcher, open_batcher
from shared.domain.errors import UnavailableError
from shared.events.catalog import CHANGES, LEADS, ORDERED, STREAMS, groups_of, stream_of
from shared.events.dead_letter import DeadLetter
from shared.events.envelope import Event
from shared.observability import tracing
from shared.observability.outages import Outages
from shared.redis_connections import (
    keep_safe,
    keys_everywhere,
    milliseconds,
    translated_errors,
)
from shared.streams.codec import Change, encode, encode_changes, event_ids, for_group
from shared.streams.ordering.layout import Divisions, is_sealed

log = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def open_publisher(
    redis: Redis,
    divisions: Divisions,
    *,
    max_bytes: int | None = None,
    outages: Outages | None = None,
) -> AsyncGenerator["Publisher"]:
    """Run a publisher for the length of the block.

    With `max_bytes` it refuses events for streams that consumers are too far behind with.
    """

    async def send(events: Sequence[Event]) -> list[str | Exception]:
        added = await try_entries(redis, [_addressed(event) for event in events], divisions)
        return [one if isinstance(one, Exception) else one.entry_id for one in added]

    async with contextlib.AsyncExitStack() as stack:
        capacity = None
        if max_bytes is not None:
            bounded = [stream for stream in STREAMS if any(groups_of(stream))]
            capacity = Capacity(
                redis, divisions, streams=bounded, max_bytes=max_bytes, outages=outages
            )
            await stack.enter_async_context(background(capacity.run(), name="stream capacity"))
        batcher = await stack.enter_async_context(open_batcher(send, name="publisher"))
        yield Publisher(batcher, capacity, partial(add_entries, redis, divisions=divisions))


# A stream that never is, of a name that whoever may publish may use.
PROBED = f"{LEADS}:probe"


class Publisher:
    """Adds events to their streams. Use through `open_publisher`."""

    def __init__(
        self,
        batcher: Batcher[Event, str],
        capacity: "Capacity | None",
        add: "Callable[[Sequence[Addressed]], Awaitable[object]]",
    ) -> None:
        self._batcher = batcher
        self._capacity = capacity
        self._add = add

    def publish(self, event: Event) -> "asyncio.Future[str]":
        """Add one event; returns what to await for its entry id, which Redis then has.

        Raises `StreamFullError` when the stream has reached its bound. After any other
        `UnavailableError` the event may be in the stream all the same: publish it again under
        the same id, consumers apply it once.
        """
        stream = stream_of(event.data)
        if self._capacity is not None:
            self._capacity.check(stream)
        if tracing.tracer is None or stream == CHANGES:
            return self._batcher.submit(event)
        return asyncio.ensure_future(self._submit_within(tracing.tracer.sending([event])))

    def publish_all(self, events: Sequence[Event]) -> "asyncio.Future[list[str]]":
        """Add several events in order, in one round trip, as `publish` does."""
        return asyncio.gather(*map(self.publish, events))

    async def announce(self, changes: Sequence[Change], *, source: str) -> None:
        """Add lead-changed for each change, in order, in one round trip; raises like `publish`."""
        entries = encode_changes(changes, source=source)
        await self._add([(CHANGES, "", fields) for fields in entries])

    async def _submit_within(self, span: AbstractContextManager[Sequence[Event]]) -> str:
        with span as [traced]:
            return await self._batcher.submit(traced)

    async def check_room(self) -> None:
        """Raise `StreamFullError` when a stream had no room at the last measurement."""
        if self._capacity is not None:
            self._capacity.check_all()


async def check_writable(redis: Redis) -> None:
    """Raise `UnavailableError` when Redis would not take an event, whatever the reason.

    The server refuses a write before it finds that there is no such stream to add to.
    """
    with translated_errors():
        async with redis.pipeline(transaction=False) as pipeline:
            for name in await keys_everywhere(redis, PROBED):
                pipeline.xadd(name, {"probe": ""}, nomkstream=True)
            await pipeline.execute()


async def add_events(
    redis: Redis, events: Sequence[Event], divisions: Divisions | None = None
) -> list[str]:
    """Add events in order, in one round trip; returns their entry ids, raises like `publish`."""
    with _traced(events) as traced:
        entries = [_addressed(event) for event in traced]
        added = await add_entries(redis, entries, divisions or Divisions(redis))
    return [one.entry_id for one in added]


def _traced(events: Sequence[Event]) -> AbstractContextManager[Sequence[Event]]:
    """Yield events in traces of their own, where there are traces."""
    tracer = tracing.tracer
    return contextlib.nullcontext(events) if tracer is None else tracer.sending_many(events)


Addressed: TypeAlias = tuple[str, str, dict[FieldT, EncodableT]]
"""An entry to be added: its stream, its partition key and its fields."""


class Added(NamedTuple):
    """Where an entry is now: its stream, and its id there."""

    stream: str
    entry_id: str


async def add_entries(
    redis: Redis, entries: Sequence[Addressed], divisions: Divisions
) -> list[Added]:
    """Add entries in order, in one round trip, those of ordered streams to their partitions."""
    added: list[Added] = []
    for one in await try_entries(redis, entries, divisions):
        if isinstance(one, UnavailableError):
            raise one
        added.append(one)
    return added


async def try_entries(
    redis: Redis, entries: Sequence[Addressed], divisions: Divisions
) -> list[Added | UnavailableError]:
    """Add entries like `add_entries`; of each that could not be added, return why.

    On a cluster that may be those alone for which a master is away.
    """
    added = await _add(redis, entries, divisions)
    sealed = [place for place, one in enumerate(added) if _is_sealed(one)]
    if sealed:
        # Divided anew since this process last heard of it.
        for stream in {entries[place][0] for place in sealed} & ORDERED:
            await divisions.refresh(stream)
        again = await _add(redis, [entries[place] for place in sealed], divisions)
        for place, one in zip(sealed, again, strict=True):
            added[place] = one
    _log_accepted(entries, added)
    return added


def _log_accepted(entries: Sequence[Addressed], added: Sequence[Added | UnavailableError]) -> None:
    """Say what is now in streams that are consumed; notices need no line of their own."""
    accepted = [
        event_ids(fields) | {"partition": one.stream, "entry": one.entry_id}
        for (stream, _, fields), one in zip(entries, added, strict=True)
        if stream != CHANGES and isinstance(one, Added)
    ]
    if accepted:
        log.info("event.accepted", each=accepted)


async def _add(
    redis: Redis, entries: Sequence[Addressed], divisions: Divisions
) -> list[Added | UnavailableError]:
    if not entries:
        return []
    ordered = {stream for stream, _, _ in entries} & ORDERED
    layouts = {stream: await divisions.layout(stream) for stream in ordered}
    streams = [
        layouts[stream].name_for(key) if stream in layouts else stream for stream, key, _ in entries
    ]
    with translated_errors():
        async with redis.pipeline(transaction=False) as pipeline:
            keep_safe(pipeline)
            for stream, (_, _, fields) in zip(streams, entries, strict=True):
                # As `xadd` does, which looks for options that there are not, for as long again.
                parts = itertools.chain.from_iterable(fields.items())
                pipeline.execute_command("XADD", stream, "*", *parts)
            ids = await pipeline.execute(raise_on_error=False)
    return [_added(stream, id_) for stream, id_ in zip(streams, ids, strict=True)]


def _added(stream: str, reply: bytes | Exception) -> Added | UnavailableError:
    if isinstance(reply, bytes):
        return Added(stream, reply.decode())
    try:
        with translated_errors():
            raise reply
    except UnavailableError as error:
        return error


def _is_sealed(added: Added | UnavailableError) -> bool:
    return isinstance(added, UnavailableError) and is_sealed(added)


async def requeue_letters(
    redis: Redis, letters: Sequence[DeadLetter], divisions: Divisions
) -> None:
    """Put parked entries back into their streams, each for its group's first attempt.

    When this fails some may have been added; adding them again is safe.
    """
    await add_entries(redis, [_put_back(letter) for letter in letters], divisions)


def _put_back(letter: DeadLetter) -> Addressed:
    fields = {name.encode(): value.encode() for name, value in letter.fields.items()}
    key = letter.fields.get("partitionkey", letter.event_id)
    return letter.stream, key, for_group(fields, group=letter.group)


# The bound on a stream's memory: past it, producers are refused rather than entries lost.

# A stream outgrows its bound by what is added in between.
MEASURE_EVERY = timedelta(milliseconds=500)
# By a process that adds nothing: others may fill a stream meanwhile.
MEASURE_AT_REST_EVERY = timedelta(seconds=5)


class StreamFullError(UnavailableError):
    """Consumers are so far behind that the stream has reached its bound."""

    def __init__(self, stream: str) -> None:
        super().__init__(f"{stream} is full: its consumers are too far behind")


class Capacity:
    """Measures streams in the background, less often while nothing is added; `check` is free."""

    def __init__(
        self,
        redis: Redis,
        divisions: Divisions,
        *,
        streams: Sequence[str],
        max_bytes: int,
        outages: Outages | None = None,
    ) -> None:
        self._redis = redis
        self._divisions = divisions
        self._streams = streams
        self._max_bytes = max_bytes
        self._outages = outages or Outages()
        self._full: frozenset[str] = frozenset()
        self._has_added = False
        self._measured_at = -math.inf

    def check(self, stream: str) -> None:
        """Raise `StreamFullError` when the stream had no room at the last measurement."""
        self._has_added = True
        if stream in self._full:
            raise StreamFullError(stream)

    def check_all(self) -> None:
        """Raise `StreamFullError` when any stream has no room."""
        if self._full:
            raise StreamFullError(", ".join(sorted(self._full)))

    async def run(self) -> None:
        """Measure, forever. While Redis is down nothing can be added anyway."""
        await repeat(
            self.measure_when_due,
            every=MEASURE_EVERY,
            outages=self._outages,
            activity="measuring streams",
        )

    async def measure_when_due(self) -> None:
        """Measure, unless nothing was added since the last time, which is not long ago."""
        rest = time.monotonic() - self._measured_at
        if self._has_added or self._full or rest >= MEASURE_AT_REST_EVERY.total_seconds():
            await self.measure()

    async def measure(self) -> None:
        """Look at every stream now, in one round trip for all."""
        self._has_added = False
        parts = {name: await self._divisions.streams_of(name) for name in self._streams}
        sizes = iter(await _sizes(self._redis, itertools.chain.from_iterable(parts.values())))
        self._full = frozenset(
            [
                name
                for name, streams in parts.items()
                if sum(itertools.islice(sizes, len(streams))) > self._max_bytes
            ]
        )
        self._measured_at = time.monotonic()


async def memory_of(redis: Redis, *streams: str) -> int:
    """Return about how many bytes streams take up together; one that is not there takes none."""
    return sum(await _sizes(redis, streams))


async def _sizes(redis: Redis, streams: Iterable[str]) -> list[int]:
    with translated_errors():
        async with redis.pipeline(transaction=False) as pipeline:
            for stream in streams:
                pipeline.memory_usage(stream)
            return [size or 0 for size in await pipeline.execute()]


# Publishing a set of events at most once under a name, however many processes try.

# Longer than any process can sleep and still wake up to try again.
REMEMBERED = timedelta(days=1)

# How long the process that took a name may take to add its events before another adds them.
PATIENCE = timedelta(seconds=2)
POLL = timedelta(milliseconds=50)


class OncePublisher:
    """Publishes under names that are used once. Trying again is always safe."""

    def __init__(self, redis: Redis, divisions: Divisions) -> None:
        self._redis = redis
        self._divisions = divisions

    async def publish(self, name: str, events: Sequence[Event]) -> list[str]:
        """Add the events unless the name is taken; returns the ids of those published under it.

        They are kept under the name first: who dies before all are added leaves them to the next
        who tries. Then some may be added twice, and applied once.
        """
        if not events:
            return []
        key = f"once:{name}"
        with _traced(events) as traced:
            offer = orjson.dumps([_addressed(event) for event in traced])
            with translated_errors():
                is_first = await self._redis.set(key, offer, nx=True, px=milliseconds(REMEMBERED))
        kept = await (self._kept(key) if is_first else self._kept_by_another(key))
        if isinstance(kept, str):
            return kept.split(",")
        await add_entries(self._redis, [tuple(entry) for entry in kept], self._divisions)
        ids = [fields["id"] for _, _, fields in kept]
        with translated_errors():
            await self._redis.set(key, orjson.dumps(",".join(ids)), px=milliseconds(REMEMBERED))
        return ids

    async def _kept(self, key: str) -> Any:
        """Return the entries that are to be added, or the ids of those that were."""
        with translated_errors():
            return orjson.loads(await self._redis.get(key) or b'""')

    async def _kept_by_another(self, key: str) -> Any:
        """Give the process that took the name the time to add its entries."""
        kept = await self._kept(key)
        for _ in range(PATIENCE // POLL):
            if isinstance(kept, str):
                break
            await asyncio.sleep(POLL.total_seconds())
            kept = await self._kept(key)
        return kept


def _addressed(event: Event) -> Addressed:
    return stream_of(event.data), event.key, encode(event)
