"""Which process reads which partition: fair shares of living members, with a fence in PostgreSQL.

Members count up a beat. Who sees one stand still for a lease, by its own clock, takes that member's
partitions over; so no two clocks are ever compared. A member that was wrongly taken for dead loses
its partitions and nothing else: its transactions fail at the fence.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Protocol
from uuid import UUID, uuid4

import structlog
from redis.asyncio import Redis

from shared.domain.errors import TransientError, UnavailableError
from shared.events.catalog import ORDERED, groups_of
from shared.events.partitions import (
    Claim,
    Division,
    HeldEntry,
    Layout,
    Member,
    Partition,
    Survey,
)
from shared.observability.metrics import counter, gauge
from shared.redis_connections import translated_errors
from shared.streams.codec import decode, encode, entry_id, unflatten
from shared.streams.consuming.group import finished_before, last_entry
from shared.streams.consuming.retry import RetryQueue
from shared.streams.ordering.layout import (
    Divisions,
    DivisionStore,
    bell_of,
    is_closed_for_good,
    ring,
    seal,
)
from shared.streams.ordering.overview import Surveyor, in_use
from shared.streams.ordering.processes import has_ended, host_name, process_name

log = structlog.get_logger(__name__)

LONGEST_TICK = timedelta(seconds=1)
# The exporter takes who shows no sign of life for 15 s for dead.
LONGEST_REST = timedelta(seconds=5)

_OWNED = gauge("leads_partitions_owned", "Partitions that this process reads.", ["stream"])
_TAKEOVERS = counter(
    "leads_takeovers_total",
    "Partitions that this process took over from one that died.",
    ["stream"],
    start=[[stream] for stream in ORDERED],
)
_FENCED = counter(
    "leads_partitions_lost_total",
    "Partitions that another process took over from this one, which it took for dead.",
    ["stream"],
    start=[[stream] for stream in ORDERED],
)


class PartitionStore(DivisionStore, Surveyor, Protocol):
    """Keeps members, partitions and what is held in them: the authority on who owns what.

    A protocol, since `shared.streams` may not import `shared.storage`; `storage.partitions` says
    more.
    """

    async def open_layout(self, layout: Layout) -> None: ...
    async def bury(self, member: Member) -> None: ...
    async def leave(self, member: Member) -> None: ...
    async def claim(self, wanted: Claim, seen: Partition) -> str | None: ...
    async def release(self, claim: Claim) -> None: ...
    def fenced(self, positions: Sequence[tuple[Claim, str]]) -> AbstractContextManager[None]: ...
    async def move(self, positions: Sequence[tuple[Claim, str]]) -> None: ...
    async def held(self, claim: Claim) -> list[HeldEntry]: ...
    async def hold(self, claim: Claim, entries: Sequence[HeldEntry]) -> None: ...
    async def let_go(self, claim: Claim, entry_ids: Sequence[str]) -> None: ...


class Pulse:
    """Whose beat has stood still for a lease, by this process's own clock."""

    def __init__(self, lease: timedelta) -> None:
        self._lease = lease.total_seconds()
        self._looked_at = -math.inf
        self._changes: dict[UUID, tuple[int, float]] = {}

    def dead(self, members: Sequence[Member]) -> set[UUID]:
        """Return the tokens of the dead among members as they are seen now."""
        now = time.monotonic()
        if now - self._looked_at > self._lease / 2:
            self._changes.clear()  # what was not seen says nothing: others may have beaten
        self._looked_at = now
        self._changes = {member.token: self._change(member, now) for member in members}
        return {token for token, (_, since) in self._changes.items() if now - since >= self._lease}

    def _change(self, member: Member, now: float) -> tuple[int, float]:
        beat, since = self._changes.get(member.token, (member.beat, now))
        return (beat, since) if beat == member.beat else (member.beat, now)


class Owned:
    """A partition that was claimed, and where its last owner had come."""

    def __init__(self, claim: Claim, layout: Layout, position: str) -> None:
        self.claim = claim
        self.name = layout.name(claim.number)
        self.position = position


class Ownership:
    """This process's share of an ordered stream's partitions.

    `keep_when_due` is to be called every `tick`. It claims what is free; `excess` says how many
    partitions to give up, which the reader does between two batches. `is_undivided` is whether the
    stream from before there were partitions is still to be drained.

    Who joins rings the bell, a stream that the others read together with their partitions. So who
    has all partitions, and waits for entries, need not look for others all the time.
    """

    def __init__(
        self,
        store: PartitionStore,
        divisions: Divisions,
        redis: Redis,
        *,
        stream: str,
        name: str,
        lease: timedelta,
    ) -> None:
        self.stream = stream
        self.member = Member(uuid4(), name, host_name(), process_name())
        self.excess = 0
        # Called when there is something to adopt, to drop or to give up.
        self.on_change: Callable[[], None] = lambda: None
        self.is_undivided = False
        self.is_listening = False
        self.tick = min(LONGEST_TICK, lease / 4)
        self.store = store
        self._divisions = divisions
        self._redis = redis
        self._pulse = Pulse(lease)
        self._rest = (min(LONGEST_REST, lease / 3) - self.tick / 2).total_seconds()
        self._looked_at = -math.inf
        self._has_all = self._is_called = False
        self._heard: str | None = None
        self._owned: dict[tuple[int, int], Owned] = {}
        self._has_joined = False
        self._lock = asyncio.Lock()
        _OWNED.labels(stream).set_function(lambda: len(self._owned))

    @property
    def owned(self) -> Sequence[Owned]:
        """The partitions of this process, as far as it knows."""
        return list(self._owned.values())

    @property
    def bell(self) -> dict[str, str]:
        """What is to be read for the bell: its stream, and the entry that was heard last."""
        return {} if self._heard is None else {bell_of(self.stream): self._heard}

    def hear(self, entry_id: str) -> None:
        """Look at the next tick: somebody has rung."""
        self._heard, self._is_called = entry_id, True

    async def keep_when_due(self) -> None:
        """Keep, unless all was well lately and whoever came since would have been heard.

        Raises `TransientError`.
        """
        would_hear = self.is_listening and self._heard is not None and not self._is_called
        is_late = time.monotonic() - self._looked_at >= self._rest
        if is_late or not (self._has_all and would_hear):
            await self.keep()

    async def keep(self) -> None:
        """Show a sign of life, and bring the shares in order. Raises `TransientError`."""
        if not self._has_joined:
            # Who is configured otherwise must not count as one who shares.
            await self._agreed_or_new(await self.store.division(self.stream))
        await self.look(beat=self.member)

    async def look(self, *, beat: Member | None = None) -> None:
        """See who owns what: drop what is another's, claim what is free."""
        async with self._lock:  # what another call claims meanwhile is not seen here
            before = self.owned, self.excess
            try:
                self._has_all = self._is_called = False
                survey = await self.store.survey(self.stream, beat=beat)
                if beat is not None:
                    await self._ring_unless_known(survey)
                await self._look(survey)
                self._looked_at = time.monotonic()
            finally:
                if (self.owned, self.excess) != before:
                    self.on_change()

    async def _look(self, survey: Survey) -> None:
        division = await self._agreed_or_new(survey.division)
        layout = await self._in_use(division, survey)
        token = self.member.token
        mine = {
            Claim(self.stream, row.layout, row.number, token, row.epoch)
            for row in survey.partitions
            if row.owner == token
        }
        for key, owned in list(self._owned.items()):
            if owned.claim not in mine:
                self._drop(key, why="another has taken it")
                _FENCED.labels(self.stream).inc()
        for claim in mine - {owned.claim for owned in self.owned}:  # of a call that failed halfway
            await self.store.release(claim)
        for owned in self.owned:
            if layout is None or owned.claim.layout != layout.number:
                await self._give_up(owned, why="the stream is divided anew")
        self.is_undivided = layout is None
        if layout is None:
            return
        dead = self._dead(survey.members)
        living = {member.token for member in survey.members} - dead | {self.member.token}
        share = self._share(layout, living)
        rows = [row for row in survey.partitions if row.layout == layout.number]
        await self._claim(layout, [row for row in rows if row.owner not in living], share)
        await self._bury(survey.members, dead)
        self.excess = max(0, len(self._owned) - share)
        self._has_all = division.is_open and share == len(self._owned) == layout.partitions

    async def _ring_unless_known(self, survey: Survey) -> None:
        """Have the others look when they cannot have seen this one: it joins, or was buried."""
        is_known = any(one.token == self.member.token for one in survey.members)
        if self._heard is None or not is_known:
            self._heard = None
            with contextlib.suppress(UnavailableError):  # a full server has its events applied too
                self._heard = await ring(self._redis, self.stream)

    def _share(self, layout: Layout, living: Collection[UUID]) -> int:
        """Return how many partitions are this process's: what is left over goes by the tokens."""
        each, left_over = divmod(layout.partitions, len(living))
        return each + (sorted(living).index(self.member.token) < left_over)

    async def give_up(self, owned: Owned) -> None:
        """Give a partition to whoever wants it; nothing of it may be under way."""
        async with self._lock:
            await self._give_up(owned, why="given to another" if self.excess else "this one leaves")

    async def _give_up(self, owned: Owned, *, why: str) -> None:
        self._drop((owned.claim.layout, owned.claim.number), why=why)
        self.excess = max(0, self.excess - 1)
        await self.store.release(owned.claim)

    async def leave(self) -> None:
        """Give up everything: the others need not wait for the end of a lease."""
        for owned in self.owned:
            await self.give_up(owned)
        await self.store.leave(self.member)

    async def _claim(self, layout: Layout, free: Sequence[Partition], share: int) -> None:
        for row in free:
            if len(self._owned) >= share:
                return
            if (row.layout, row.number) in self._owned:
                continue
            claim = Claim(self.stream, row.layout, row.number, self.member.token, row.epoch + 1)
            with contextlib.suppress(TransientError):  # its last owner is in a transaction
                position = await self.store.claim(claim, row)
                if position is not None:
                    owned = Owned(claim, layout, position)
                    self._owned[row.layout, row.number] = owned
                    if row.owner is not None:
                        _TAKEOVERS.labels(self.stream).inc()
                    log.info(
                        "partition.taken",
                        partition=owned.name,
                        epoch=claim.epoch,
                        why="free" if row.owner is None else "its owner is gone",
                        position=position,
                    )

    def _drop(self, key: tuple[int, int], *, why: str) -> None:
        if (owned := self._owned.pop(key, None)) is not None:
            log.info("partition.lost", partition=owned.name, epoch=owned.claim.epoch, why=why)

    def _dead(self, members: Sequence[Member]) -> set[UUID]:
        ended = {
            member.token
            for member in members
            if member.token != self.member.token
            and has_ended(member.host, member.process, restarted=not self._has_joined)
        }
        self._has_joined = True
        return (self._pulse.dead(members) | ended) - {self.member.token}

    async def _bury(self, members: Sequence[Member], dead: set[UUID]) -> None:
        for member in members:
            if member.token in dead:
                log.warning("member.dead", member=member.name)
                await self.store.bury(member)

    # Layouts: the one before is drained, then the next one opens.

    async def _agreed_or_new(self, division: Division | None) -> Division:
        if division is None:
            division = await self._divisions.refresh(self.stream)
            for layout in division.layouts:  # Redis knows more than a database that was emptied
                await self.store.divide(
                    self.stream,
                    number=layout.number,
                    partitions=layout.partitions,
                    is_open=division.is_open or layout != division.last,
                )
            return division
        return await self._agreed(division)

    async def _agreed(self, division: Division) -> Division:
        """Have PostgreSQL and Redis say the same of a division; returns what that is for now.

        Redis may have lost layouts. A database that was restored lacks those that are younger than
        its backup: what is in them comes again, after what is in the one before.
        """
        known = await self._divisions.refresh(self.stream)
        number = len(division.layouts)
        if len(known.layouts) > number and known.layouts[:number] == division.layouts:
            if division.is_open:
                missing = known.layouts[number]
                division = await self.store.divide(
                    self.stream,
                    number=missing.number,
                    partitions=missing.partitions,
                    is_open=False,
                )
            whole = Division(known.layouts, is_open=False)
            if known not in (whole, division):
                await self._divisions.publish(whole)
        elif known != division:
            await self._divisions.publish(division)
        return division

    async def _in_use(self, division: Division, survey: Survey) -> Layout | None:
        """Return the layout to work on; None while it is the undivided stream of before."""
        before = in_use(division)
        if division.is_open:
            return before
        names = [self.stream] if before is None else before.names
        for name in names:
            if not await is_closed_for_good(self._redis, name):
                await seal(self._redis, name)
        if before is None:
            is_done = await self._is_undivided_done()
            if is_done:
                await self._forward_retries(division.last)
        else:
            is_done = await self._is_done(before, survey)
        if is_done:
            await self.store.open_layout(division.last)
            await self._agreed(Division(division.layouts, is_open=True))
            log.info("layout.opened", stream=self.stream, partitions=division.last.partitions)
            return division.last
        return before

    async def _is_done(self, layout: Layout, survey: Survey) -> bool:
        if any(number == layout.number for number, _ in await self.store.count_held(self.stream)):
            return False
        positions = {
            row.number: entry_id(row.position)
            for row in survey.partitions
            if row.layout == layout.number
        }
        for number, name in enumerate(layout.names):
            newest = await last_entry(self._redis, name)
            if newest is not None and newest > positions[number]:
                return False
        return True

    async def _is_undivided_done(self) -> bool:
        """Return whether everything in the stream from before there were partitions is done."""
        newest = await last_entry(self._redis, self.stream)
        return newest is None or await finished_before(self._redis, self.stream) > newest

    async def _forward_retries(self, layout: Layout) -> None:
        """Put what waits for another attempt first into a layout: its stream takes it no more."""
        for group in groups_of(self.stream):
            queue = RetryQueue(self._redis, stream=self.stream, group=group)
            if not (waiting := await queue.members()):
                continue
            events = [decode(unflatten(flat)) for flat in waiting]
            with translated_errors():
                async with self._redis.pipeline(transaction=False) as pipeline:
                    for event in events:
                        pipeline.xadd(layout.name_for(event.key), encode(event))
                    await pipeline.execute()
            await queue.remove(waiting)
