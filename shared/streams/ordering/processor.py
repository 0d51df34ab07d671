"""Decides for each entry of a partition: applied, held back with its key, or parked.

Entries of one key are applied in their order, each after the one before it has come to its end.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from functools import partial

import structlog

from shared.domain.errors import (
    FencedError,
    PermanentError,
    TransientError,
)
from shared.domain.values import value
from shared.events.outcome import Outcome
from shared.events.partitions import HeldEntry
from shared.observability.logging import describe_error
from shared.streams.codec import Entry, decode, event_ids
from shared.streams.consuming.health import ConsumerCircuit, LeftPendingError, OutageWait
from shared.streams.consuming.processor import CIRCUIT_DELAY, failure, handle, traced
from shared.streams.consuming.retry import delay_before
from shared.streams.consuming.settlement import Delivery, Settlement
from shared.streams.consuming.subscription import Subscription
from shared.streams.ordering.ownership import PartitionStore
from shared.streams.ordering.partition import OwnPartition

log = structlog.get_logger(__name__)

AT_ONCE = timedelta(0)

# More events than are applied together are divided into lanes, by partitions: while PostgreSQL
# works for one of them, this process works for the other.
LANES = 2
# So many times as long as another does a replayed event take: it may have to be looked for in the
# archive. So fewer of them are worth a lane.
REPLAYED_TIMES = 4


@value()
class Work:
    """An entry of a partition to be worked on: `is_held` once it has been held back."""

    partition: OwnPartition
    entry: Entry
    is_held: bool = False


class PartitionProcessor:
    """Runs handlers inside the fence, and decides what follows from how they end."""

    def __init__(
        self,
        subscription: Subscription,
        settlement: Settlement,
        store: PartitionStore,
        *,
        max_attempts: int,
        most_held: int,
        circuit: ConsumerCircuit,
        outages: OutageWait,
    ) -> None:
        self._subscription = subscription
        self._settlement = settlement
        self._store = store
        self._max_attempts = max_attempts
        self.most_held = most_held
        self.circuit = circuit
        self._outages = outages

    async def process(self, work: Sequence[Work]) -> None:
        """Bring each entry to its end, or hold it back.

        Raises `FencedError` when a partition is another process's by now, `UnavailableError` and
        `LeftPendingError`: what has not come to its end is then to be processed again.
        """
        opened = [(one, delivery) for one in work if (delivery := await self._open(one))]
        with traced([delivery for _, delivery in opened], self._subscription):
            if self._is_much(work):
                await self._process_lanes(_lanes(opened))
            else:
                await self._process_lane(opened)

    def _is_much(self, work: Sequence[Work]) -> bool:
        times = REPLAYED_TIMES if any(one.entry.is_replayed for one in work) else 1
        return len(work) * times > self._subscription.batch

    async def _process_lanes(self, lanes: Iterable[Sequence[tuple[Work, Delivery]]]) -> None:
        """Process lanes side by side, each to its end whatever becomes of the others."""
        errors: list[Exception] = []

        async def process(lane: Sequence[tuple[Work, Delivery]]) -> None:
            try:
                await self._process_lane(lane)
            except Exception as error:  # noqa: BLE001 (raised below)
                errors.append(error)

        async with asyncio.TaskGroup() as tasks:
            for lane in lanes:
                tasks.create_task(process(lane), name=f"lane {self._subscription.stream}")
        for error in errors:
            raise error

    async def _process_lane(self, opened: Sequence[tuple[Work, Delivery]]) -> None:
        for run in _runs(opened):
            behind = [one for one, _ in run if _waits(one)]
            free = [(one, delivery) for one, delivery in run if not _waits(one)]
            await self._hold_back(behind)
            if free:
                await self._apply(free)

    async def park_crashing(self, work: Work, *, crashes: int) -> None:
        """Park an entry under which processes died, unless its effect is complete already."""
        delivery = await self._open(work)
        if delivery is None:
            return
        if await self._subscription.is_settled(delivery.event.id):
            await self._end(work)
            return
        error = PermanentError(f"{crashes} processes ended while working on it", code="crash")
        await self._park(work, error, reason="crash")

    async def _open(self, work: Work) -> Delivery | None:
        """Return the event in an entry; None when there is nothing to handle in it."""
        partition, entry = work.partition, work.entry
        if not work.is_held and partition.was_seen_to(entry):
            partition.done(entry)  # before its last reader died
            return None
        try:
            event = decode(entry.fields)
        except PermanentError as error:
            await self._park(work, error, reason=error.code)
            return None
        for_others = event.only_group not in {None, self._subscription.group}
        if for_others or event.type not in self._subscription.handlers:
            await self._end(work)
            return None
        return Delivery(partition.name, entry, event)

    async def _apply(self, run: Sequence[tuple[Work, Delivery]]) -> None:
        """Handle events of one type and of different keys together; each alone on failure."""
        work = [one for one, _ in run]
        deliveries = [delivery for _, delivery in run]
        try:
            with self._fenced(work):
                outcomes = await self._handle(deliveries)
        except (LeftPendingError, FencedError):
            raise
        except Exception as error:  # noqa: BLE001 (the one place that decides what follows)
            if len(run) == 1:
                deliveries[0].fail(error)
                await self._reject(work[0], error)
                return
            log.warning("batch.isolated", entries=len(run), error=describe_error(error))
            for one in run:
                await self._apply([one])
        else:
            for delivery in deliveries:
                self.circuit.succeeded(delivery.entry.event_id)
            await self._settlement.settle(deliveries, outcomes)
            for ended in work:
                await self._end(ended)

    async def _handle(self, run: Sequence[Delivery]) -> Sequence[Outcome]:
        return await handle(self._subscription, run, outages=self._outages)

    async def _reject(self, work: Work, error: Exception) -> None:
        """Decide by the error: hold back, or park."""
        entry = work.entry
        self.circuit.failed(entry.event_id)
        if self.circuit.is_open and entry.is_text:
            await self._hold(work, error, attempt=entry.attempt, wait=CIRCUIT_DELAY)
        elif isinstance(error, PermanentError):
            await self._park(work, error, reason=error.code)
        elif entry.attempt >= self._max_attempts:
            reason = "attempts" if isinstance(error, TransientError) else "error"
            await self._park(work, error, reason=reason)
        else:
            attempt = entry.attempt + 1
            await self._hold(work, error, attempt=attempt, wait=delay_before(attempt))

    async def _hold(self, work: Work, error: Exception, *, attempt: int, wait: timedelta) -> None:
        log.warning(
            "event.held",
            **failure(work.entry, error, attempt=attempt, wait=wait),
            partition=work.partition.name,
        )
        self._settlement.count_retried(work.entry)
        entry = replace(work.entry, fields={**work.entry.fields, b"attempt": str(attempt).encode()})
        await self._keep([replace(work, entry=entry)], wait)
        if work.is_held:
            work.partition.held.postpone(entry, wait)
        else:
            work.partition.hold(entry, wait)

    async def _hold_back(self, work: Sequence[Work]) -> None:
        """Hold entries whose key is held: they wait for those before them."""
        if not work:
            return
        waiting = [
            {**event_ids(one.entry.fields), "partition": one.partition.name, "entry": one.entry.id}
            for one in work
        ]
        log.warning("event.held", reason="behind", each=waiting)
        await self._keep(work, AT_ONCE)
        for one in work:
            one.partition.hold(one.entry, AT_ONCE)

    async def _keep(self, work: Sequence[Work], wait: timedelta) -> None:
        by_partition: defaultdict[OwnPartition, list[HeldEntry]] = defaultdict(list)
        for one in work:
            by_partition[one.partition].append(_kept(one.entry, wait))
        for partition, entries in by_partition.items():
            await self._store_held(partition, entries)

    async def _store_held(self, partition: OwnPartition, entries: Sequence[HeldEntry]) -> None:
        hold = partial(self._store.hold, partition.claim, entries)
        with self._store.fenced([(partition.claim, partition.position)]):
            await self._outages.call(hold)

    async def _park(self, work: Work, error: Exception, *, reason: str) -> None:
        with self._fenced([work]):
            await self._settlement.park(
                work.entry, error, reason=reason, partition=work.partition.name
            )
        # Before a later event of the key: nothing else tells who reads this one again that it has
        # ended, as an operator may have removed the letter by then.
        parked = HeldEntry(
            entry_id=work.entry.id, key=work.entry.key, attempt=0, wait=AT_ONCE, fields={}
        )
        await self._store_held(work.partition, [parked])
        work.partition.note_parked(work.entry.id)
        if work.is_held:
            work.partition.held.remove_first(work.entry.key)
        else:
            work.partition.done(work.entry)

    async def _end(self, work: Work) -> None:
        """Be done with an entry."""
        if work.is_held:
            await self._outages.call(
                lambda: self._store.let_go(work.partition.claim, [work.entry.id])
            )
            work.partition.held.remove_first(work.entry.key)
        else:
            work.partition.done(work.entry)

    def _fenced(self, work: Iterable[Work]) -> AbstractContextManager[None]:
        partitions = {one.partition: None for one in work}
        return self._store.fenced([(one.claim, one.position) for one in partitions])


def _lanes(
    opened: Sequence[tuple[Work, Delivery]],
) -> Iterable[Sequence[tuple[Work, Delivery]]]:
    """Divide what was read into lanes of about one length, each partition in one of them."""
    sizes = Counter(work.partition for work, _ in opened)
    lane_of: dict[OwnPartition, int] = {}
    filled = [0] * LANES
    for partition, size in sizes.most_common():
        lane = lane_of[partition] = filled.index(min(filled))
        filled[lane] += size
    lanes: defaultdict[int, list[tuple[Work, Delivery]]] = defaultdict(list)
    for work, delivery in opened:
        lanes[lane_of[work.partition]].append((work, delivery))
    return lanes.values()


def _runs(
    opened: Sequence[tuple[Work, Delivery]],
) -> Iterable[Sequence[tuple[Work, Delivery]]]:
    """Return what can be applied together: of each key one event at a time, and of one type."""
    seen: Counter[str] = Counter()
    runs: defaultdict[tuple[int, str], list[tuple[Work, Delivery]]] = defaultdict(list)
    for work, delivery in opened:
        key = work.entry.key
        runs[seen[key], delivery.event.type].append((work, delivery))
        seen[key] += 1
    return [runs[place] for place in sorted(runs)]


def _waits(work: Work) -> bool:
    """Return whether an entry is behind another one of its key."""
    return not work.is_held and work.entry.key in work.partition.held


def _kept(entry: Entry, wait: timedelta) -> HeldEntry:
    return HeldEntry(
        entry_id=entry.id, key=entry.key, attempt=entry.attempt, wait=wait, fields=entry.fields
    )
