"""What the streams, their groups and their consumers are at."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from redis.asyncio import Redis

from shared.domain.errors import TransientError
from shared.events.catalog import ORDERED, groups_of
from shared.events.partitions import Division
from shared.redis_connections import translated_errors
from shared.streams.codec import entry_id
from shared.streams.consuming.group import there_or, time_at
from shared.streams.consuming.retry import RetryQueue
from shared.streams.entry_counter import EntryCounter, StreamMark
from shared.streams.ordering.layout import Divisions
from shared.streams.ordering.overview import (
    Overview,
    PartitionState,
    Surveyor,
    ask_for_signs,
    in_use,
    overview,
    partition_state,
)

# So many are counted at once, which takes some milliseconds of the server's time.
PAGE = 10_000

# No more than these are counted.
PAGES = 100
COUNTABLE = PAGE * PAGES

# Streams that are looked at in one round trip, and in another for their groups: the exporter looks
# often. Redis serves nobody else meanwhile, for some 10 us each.
AT_ONCE = 16

# How long PostgreSQL may take before a stream is shown without what it alone knows.
PATIENCE = timedelta(seconds=1)

_BEGINNING = "0-0"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerState:
    """One consumer: how long since it last asked for anything, and what it holds.

    Of one that shares partitions `idle` is how long it gave no sign of life while it was watched.
    """

    name: str
    idle: timedelta
    pending: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupState:
    """One group. `undelivered` is None when more than `COUNTABLE` and Redis cannot tell.

    `oldest_pending` is how long ago the oldest unacknowledged entry was added, `oldest_undelivered`
    the first that was not delivered. Of an ordered stream `retries` are the entries that are held,
    None while PostgreSQL is away. `handled_per_second` is how many entries it has come to an end
    with while it was watched, put off ones among them; None when it was not, or that is unknown.
    """

    name: str
    last_delivered: str
    undelivered: int | None
    pending: int
    oldest_undelivered: timedelta | None
    oldest_pending: timedelta | None
    retries: int | None
    consumers: tuple[ConsumerState, ...]
    handled_per_second: float | None = None

    @property
    def lag(self) -> int | None:
        """How many entries the group has yet to finish, retries aside; None when unknown."""
        return None if self.undelivered is None else self.undelivered + self.pending


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamState:
    """One stream; ids are None and figures 0 when it is empty or not there.

    That of an ordered stream is the sum of its `partitions`, old layouts and all, of which those
    are shown that are in use or not done.
    """

    name: str
    exists: bool
    length: int
    memory: int
    first: str | None
    last: str | None
    added: int
    per_second: float | None
    groups: tuple[GroupState, ...]
    partitions: tuple[PartitionState, ...] = ()


class Inspector:
    """Looks without touching. With `store` it also sees who shares the ordered streams.

    Entries are counted `page` at a time, and no more than a hundred pages.
    """

    def __init__(self, client: Redis, store: Surveyor | None = None, *, page: int = PAGE) -> None:
        self._redis = client
        self._store = store
        self._divisions = Divisions(client)
        self._page = page
        self._counter = EntryCounter(client, page=page)

    async def sampled(
        self, streams: tuple[str, ...], *, over: timedelta | None
    ) -> list[StreamState]:
        """Return the streams' states, with their rates as seen over a span when one is given."""
        if over is None:
            return [await self.look(stream) for stream in streams]
        marks = [await self._marks(stream) for stream in streams]
        seen = [await self._overview(stream) for stream in streams]
        for stream in (one for one, known in zip(streams, seen, strict=True) if known is not None):
            await ask_for_signs(self._redis, stream)
        await asyncio.sleep(over.total_seconds())
        after = [
            await self._look(stream, seen=members, over=over, marks=marked)
            for stream, members, marked in zip(streams, seen, marks, strict=True)
        ]
        before = [sum(mark.added for mark in marked.values()) for marked in marks]
        return [
            replace(new, per_second=max(0, new.added - added) / over.total_seconds())
            for added, new in zip(before, after, strict=True)
        ]

    async def look(self, stream: str) -> StreamState:
        """Return one stream's state."""
        return await self._look(stream, seen=None, over=timedelta(0), marks={})

    async def _look(
        self,
        stream: str,
        *,
        seen: Overview | None,
        over: timedelta,
        marks: Mapping[str, StreamMark],
    ) -> StreamState:
        division = await self._division(stream)
        names = [stream] if division is None else division.names
        known = await self._overview(stream)
        parts = [
            await self._rated(part, marks.get(part.name), over=over)
            for part in await self.look_at(*names)
        ]
        if division is None:
            return parts[0]
        sharing = () if known is None else tuple(_consumers(known, seen or known, over=over))
        return StreamState(
            name=stream,
            exists=any(part.exists for part in parts),
            length=sum(part.length for part in parts),
            memory=sum(part.memory for part in parts),
            first=min((part.first for part in parts if part.first), key=entry_id, default=None),
            last=max((part.last for part in parts if part.last), key=entry_id, default=None),
            added=sum(part.added for part in parts),
            per_second=None,
            groups=tuple(_joined(parts, known, sharing)),
            partitions=tuple(_partitions(stream, division, parts, known)),
        )

    async def look_at(self, *streams: str) -> list[StreamState]:
        """Return the states of what are streams in Redis, such as partitions."""
        states: list[StreamState] = []
        for first in range(0, len(streams), AT_ONCE):
            states += await self._states(streams[first : first + AT_ONCE])
        return states

    async def _states(self, streams: Sequence[str]) -> list[StreamState]:
        with translated_errors():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for stream in streams:
                    pipeline.xinfo_stream(stream)
                    pipeline.xinfo_groups(stream)
                    pipeline.memory_usage(stream)
                    time_at.queue(pipeline, stream=stream)
                known = _by(4, await pipeline.execute(raise_on_error=False))
            async with self._redis.pipeline(transaction=False) as pipeline:
                for stream, (_, groups, *_) in zip(streams, known, strict=True):
                    for name in (group["name"].decode() for group in there_or(groups, [])):
                        pipeline.xpending(stream, name)
                        pipeline.zcard(RetryQueue(self._redis, stream=stream, group=name).key)
                        pipeline.xinfo_consumers(stream, name)
                held = iter(_by(3, await pipeline.execute()))
            return [
                await self._state(stream, *reply, held=held)
                for stream, reply in zip(streams, known, strict=True)
            ]

    async def _state(
        self, stream: str, info: Any, groups: Any, memory: Any, now: Any, *, held: Iterator[Any]
    ) -> StreamState:
        info, now = there_or(info, {}), there_or(now, 0) / 1000
        groups = [
            await self._group(stream, group, next(held), info=info, now=now)
            for group in there_or(groups, [])
        ]
        return StreamState(
            name=stream,
            exists=bool(info),
            length=int(info.get("length", 0)),
            memory=there_or(memory, 0) or 0,
            first=_id_of(info.get("first-entry")),
            last=_id_of(info.get("last-entry")),
            added=int(info.get("entries-added", 0)),
            per_second=None,
            groups=tuple(groups),
        )

    async def _division(self, stream: str) -> Division | None:
        return await self._divisions.published(stream) if stream in ORDERED else None

    async def _overview(self, stream: str) -> Overview | None:
        """Return what PostgreSQL knows of an ordered stream; None while it does not answer."""
        if self._store is None or stream not in ORDERED:
            return None
        try:
            async with asyncio.timeout(PATIENCE.total_seconds()):
                return await overview(self._store, stream)
        except (TransientError, TimeoutError):
            return None

    async def _marks(self, stream: str) -> dict[str, StreamMark]:
        division = await self._division(stream)
        names = [stream] if division is None else division.names
        return {name: await self._counter.mark(name) for name in names}

    async def _rated(
        self, part: StreamState, mark: StreamMark | None, *, over: timedelta
    ) -> StreamState:
        """Return a state with what its groups have handled since they were marked."""
        if mark is None:
            return part
        return replace(
            part,
            groups=tuple(
                [
                    replace(group, handled_per_second=await self._rate(group, part, mark, over))
                    for group in part.groups
                ]
            ),
        )

    async def _rate(
        self, group: GroupState, part: StreamState, mark: StreamMark, over: timedelta
    ) -> float | None:
        was = mark.groups.get(group.name)
        if was is None:
            return None
        given = await self._counter.given_since(
            was,
            part.name,
            position=group.last_delivered,
            added=part.added - mark.added,
            undelivered=group.undelivered,
        )
        if given is None:
            return None
        return max(0, given - (group.pending - was.pending)) / over.total_seconds()

    async def _group(
        self, stream: str, group: dict[str, Any], held: Any, *, info: dict[str, Any], now: float
    ) -> GroupState:
        last_delivered = group["last-delivered-id"].decode()
        pending, retries, consumers = held
        undelivered, first = await self._undelivered(
            stream, last_delivered, claimed=group.get("lag"), info=info
        )
        return GroupState(
            name=group["name"].decode(),
            last_delivered=last_delivered,
            undelivered=undelivered,
            pending=int(group["pending"]),
            oldest_undelivered=_age(first, now),
            oldest_pending=_age(pending["min"], now),
            retries=retries,
            consumers=tuple(
                ConsumerState(
                    name=consumer["name"].decode(),
                    idle=timedelta(milliseconds=consumer["idle"]),
                    pending=consumer["pending"],
                )
                for consumer in consumers
            ),
        )

    async def _undelivered(
        self, stream: str, last_delivered: str, *, claimed: int | None, info: dict[str, Any]
    ) -> tuple[int | None, str | None]:
        """Count what comes after the cursor; only past one page believe what Redis claims.

        Its lag is null after a deletion ahead of the cursor, and too high after a trim. The first
        id that comes after it is returned, too.
        """
        length = int(info.get("length", 0))
        if last_delivered == _BEGINNING:
            return length, _id_of(info.get("first-entry"))
        if info and info["last-generated-id"].decode() == last_delivered:
            return 0, None
        counted, after, first = 0, last_delivered, None
        while counted < self._page * PAGES:
            number, start, after = await self._counter.count(stream, after=after)
            counted, first = counted + number, first or start or None
            if number < self._page:
                return counted, first
            if claimed is not None:
                return min(int(claimed), length), first
        return None, first


def _by(size: int, replies: Sequence[Any]) -> list[Sequence[Any]]:
    return [replies[first : first + size] for first in range(0, len(replies), size)]


def _consumers(known: Overview, seen: Overview, *, over: timedelta) -> Iterator[ConsumerState]:
    for member in sorted(known.members.values(), key=lambda member: member.name):
        is_silent = seen.members.get(member.token) == member
        yield ConsumerState(name=member.name, idle=over if is_silent else timedelta(0), pending=0)


def _joined(
    parts: Sequence[StreamState], known: Overview | None, sharing: tuple[ConsumerState, ...]
) -> Iterator[GroupState]:
    """Yield the groups that any part has, each as one; a part without it is all to be done."""
    for name in dict.fromkeys(group.name for part in parts for group in part.groups):
        lags = [_undelivered(part, name) for part in parts]
        groups = [group for part in parts for group in part.groups if group.name == name]
        retries, rates = None, [group.handled_per_second for group in groups]
        if known is not None:
            retries = sum(group.retries or 0 for group in groups) + sum(known.held.values())
        yield GroupState(
            name=name,
            last_delivered=max((group.last_delivered for group in groups), key=entry_id),
            undelivered=None if None in lags else sum(lag or 0 for lag in lags),
            pending=sum(group.pending for group in groups),
            oldest_undelivered=_longest(group.oldest_undelivered for group in groups),
            oldest_pending=_longest(group.oldest_pending for group in groups),
            retries=retries,
            consumers=(*(one for group in groups for one in group.consumers), *sharing),
            handled_per_second=None if None in rates else sum(rate or 0 for rate in rates),
        )


def _undelivered(part: StreamState, name: str) -> int | None:
    group = _group_of(part, name)
    return part.length if group is None else group.undelivered


def _group_of(part: StreamState, name: str) -> GroupState | None:
    return next((group for group in part.groups if group.name == name), None)


def _partitions(
    stream: str, division: Division, parts: Sequence[StreamState], known: Overview | None
) -> Iterator[PartitionState]:
    states = {part.name: part for part in parts}
    [name] = groups_of(stream)  # positions are kept for one
    current = {division.last, in_use(division)}
    for layout in division.layouts:
        for number in range(layout.partitions):
            part = states[layout.name(number)]
            group = _group_of(part, name)
            state = partition_state(
                known,
                layout,
                number,
                shown=None if group is None else group.last_delivered,
                lag=_undelivered(part, name),
                handled_per_second=None if group is None else group.handled_per_second,
            )
            if layout in current or state.lag != 0 or state.held:
                yield state


def _longest(spans: Iterable[timedelta | None]) -> timedelta | None:
    return max((span for span in spans if span is not None), default=None)


def _age(oldest: bytes | str | None, now: float) -> timedelta | None:
    if oldest is None:
        return None
    return timedelta(seconds=max(0, now - entry_id(oldest)[0] / 1000))


def _id_of(entry: Any) -> str | None:
    return None if entry is None else entry[0].decode()
