"""Reads this process's partitions and has what is in them applied, in order within each."""

import asyncio
import contextlib
import heapq
import itertools
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, cast

import structlog
from redis.asyncio import Redis

from shared.background import Backoff, wait_for_event
from shared.batcher import Slices
from shared.domain.errors import FencedError
from shared.observability.logging import error_fields
from shared.redis_connections import milliseconds, translated_errors
from shared.settings import ConsumerSettings
from shared.streams.codec import Entry, EntryId, entries_of, entry_id
from shared.streams.consuming.consumer import TRIAL_EVERY, RWLock
from shared.streams.consuming.health import FailingError, LeftPendingError, Progress
from shared.streams.ordering.bookkeeping import Bookkeeping
from shared.streams.ordering.ownership import Owned, Ownership
from shared.streams.ordering.partition import OwnPartition
from shared.streams.ordering.processor import LANES, PartitionProcessor, Work

log = structlog.get_logger(__name__)

# How far partitions have come is saved once no entry has come for so long.
SAVE_AFTER = timedelta(milliseconds=500)

# How often it is looked whether a stream has lost what was read from it: of those that get entries.
CHECK_EVERY = timedelta(seconds=1)

# How long what comes meanwhile waits for replayed entries: as people are about, or were not lately.
REPLAYED, REPLAYED_ALONE = timedelta(milliseconds=30), timedelta(milliseconds=100)
FEWEST_REPLAYED = 30
ALONE_AFTER = timedelta(seconds=1)


class PartitionConsumer:
    """One process's reader of an ordered stream."""

    def __init__(
        self,
        reader: Redis,
        ownership: Ownership,
        processor: PartitionProcessor,
        bookkeeping: Bookkeeping,
        *,
        batch: int,
        lock: RWLock,
        progress: Progress,
        settings: ConsumerSettings,
        stop: asyncio.Event,
    ) -> None:
        self._reader = reader
        self._ownership = ownership
        self._store = ownership.store
        self._processor = processor
        self._bookkeeping = bookkeeping
        self._batch = batch
        self._most_held = processor.most_held
        self._lock = lock
        self._circuit = processor.circuit
        self._progress = progress
        self._block = settings.stream_block
        # The process that dies with a batch may have died of anything in it; these died alone.
        self._most_crashes = settings.stream_max_deliveries - 1
        self._stop = stop
        self._partitions: dict[Owned, OwnPartition] = {}
        self._checked_at = 0.0
        self._replayed = Slices(least=FEWEST_REPLAYED, most=batch * LANES)
        self._urgent_at = -math.inf
        self._at_risk: Work | None = None
        # Whether Redis was away, and may be another server by now.
        self._is_unsure = False
        # Set when there is something else to do than to wait for entries.
        self._awake = asyncio.Event()
        self._waiting: asyncio.Timeout | None = None
        ownership.on_change = self.wake

    async def run(self) -> None:
        """Read and apply until stopped."""
        while not self._stop.is_set():
            async for _ in Backoff(stop=self._stop):
                try:
                    await self._turn()
                    break
                except FencedError:
                    await self._look_again()
                except LeftPendingError:
                    return
                except Exception as error:  # noqa: BLE001 (whatever the server says, it may pass)
                    self._is_unsure = True
                    self._progress.hold("reading", error)

    def wake(self) -> None:
        """Have a wait for entries end at once."""
        self._awake.set()
        if self._waiting is not None:
            self._waiting.reschedule(0)
            self._waiting = None

    async def leave(self) -> None:
        """Save how far each partition has come, and give all up."""
        if self._at_risk is not None:  # it stopped in the middle, and did not die
            await self._bookkeeping.clear_crash(
                self._at_risk.partition.name, self._at_risk.entry.id
            )
        await self._save(list(self._partitions.values()))
        self._partitions.clear()
        await self._ownership.leave()

    async def _turn(self) -> None:
        if self._is_unsure or time.monotonic() - self._checked_at > CHECK_EVERY.total_seconds():
            await self._check()
        self._awake.clear()
        await self._hand_over()
        if not self._partitions:
            self._progress.release("reading")
            await wait_for_event(self._awake, within=self._block)
        elif await self._retry_held() or await self._work_on_suspect():
            return
        elif chunk := self._urgent():
            self._urgent_at = time.monotonic()
            await self._work_on(chunk)
        elif chunk := self._next_chunk(_work_in(one, one.waiting) for one in self._open()):
            await self._work_on_replayed(chunk)
        else:
            await self._read()

    async def _look_again(self) -> None:
        """See which partitions are another's: all else goes on with the next turn."""
        try:
            await self._ownership.look()
        except Exception as error:  # noqa: BLE001 (it is tried again)
            log.warning("partitions.unknown", **error_fields(error))

    # Whose partitions these are.

    async def _hand_over(self) -> None:
        owned = self._ownership.owned
        for lost in self._partitions.keys() - set(owned):
            del self._partitions[lost]
        for one in owned:
            if one not in self._partitions:
                self._partitions[one] = await self._adopt(one)
        if self._ownership.excess:
            given = list(self._partitions)[-self._ownership.excess :]
            await self._save([self._partitions[one] for one in given])
            for one in given:
                del self._partitions[one]
                await self._ownership.give_up(one)

    async def _adopt(self, owned: Owned) -> OwnPartition:
        suspect_until = await self._bookkeeping.was_running(owned.name)
        partition = OwnPartition(owned, suspect_until=suspect_until, most_held=self._most_held)
        for held in sorted(
            await self._store.held(owned.claim), key=lambda held: entry_id(held.entry_id)
        ):
            if held.has_ended:
                partition.note_parked(held.entry_id)
                continue
            attempt = {b"attempt": str(held.attempt).encode()}
            partition.inherit(Entry(held.entry_id, dict(held.fields) | attempt), held.wait)
        partition.crashed = await self._bookkeeping.crashed(owned.name)
        return partition

    async def _save(self, partitions: Sequence[OwnPartition]) -> None:
        """Have PostgreSQL and Redis know how far partitions have come."""
        if moved := [one for one in partitions if one.saved != one.position]:
            await self._store.move([(one.claim, one.position) for one in moved])
            for one in moved:
                one.saved = one.position
        await self._note([], partitions)
        for one in partitions:
            if passed := one.passed:
                await self._store.let_go(one.claim, passed)
                one.forget_parked(passed)

    # What is worked on.

    def _urgent(self) -> list[Work]:
        return self._next_chunk(_work_in(one, one.urgent) for one in self._open())

    def _open(self) -> list[OwnPartition]:
        return [one for one in self._partitions.values() if not one.held.is_full]

    def _next_chunk(self, read: Iterable[Iterator[Work]]) -> list[Work]:
        lanes = min(LANES, len(self._partitions))
        size = 1 if self._circuit.is_open else self._batch * lanes
        # By their text: within a partition nothing changes places, and between them it need not.
        merged = heapq.merge(*read, key=lambda work: work.entry.id)
        return list(itertools.islice(merged, size))

    async def _work_on_replayed(self, waiting: Sequence[Work]) -> None:
        """Work on a slice of replayed entries, and of what has to come after them.

        All else goes before it: nobody waits for a replay, and what it does is the same later.
        """
        if not self._circuit.is_open:
            await self._take(self._with_room(), block=None)
            if self._urgent():
                return
        is_alone = time.monotonic() - self._urgent_at > ALONE_AFTER.total_seconds()
        aim = REPLAYED_ALONE if is_alone else REPLAYED
        chunk = waiting[: self._replayed.size(aim=aim)]
        with self._replayed.timed(len(chunk)):
            await self._work_on(chunk)

    async def _work_on(self, chunk: Sequence[Work]) -> None:
        if await self._note(chunk, list(self._partitions.values())):
            return  # some of it may not be next any more
        async with self._lock.reader():
            await self._processor.process(chunk)
        if not self._circuit.is_open:
            self._progress.release("reading")

    async def _work_on_suspect(self) -> bool:
        for partition in self._partitions.values():
            entry = next(partition.waiting, None)
            if entry is not None and partition.is_suspect(entry):
                await self._work_alone(Work(partition, entry))
                return True
        return False

    async def _retry_held(self) -> bool:
        """Try what is due; returns whether there was anything."""
        due = [
            Work(partition, entry, is_held=True)
            for partition in self._partitions.values()
            for entry in partition.held.due()
        ]
        for work in due:
            if work.entry.id in work.partition.crashed:
                await self._work_alone(work)
            else:
                await self._count_crash(work)
                async with self._lock.reader():
                    await self._processor.process([work])
                await self._clear_crash(work)
        return bool(due)

    async def _work_alone(self, work: Work) -> None:
        """Work on an entry of which a process may have died, with nothing else under way."""
        async with self._lock.writer():
            crashes = await self._count_crash(work)
            if crashes > self._most_crashes:
                await self._processor.park_crashing(work, crashes=crashes)
            elif not await self._note([], list(self._partitions.values())):
                await self._processor.process([work])
        await self._clear_crash(work)

    async def _count_crash(self, work: Work) -> int:
        self._at_risk = work
        return await self._bookkeeping.count_crash(work.partition.name, work.entry.id)

    async def _clear_crash(self, work: Work) -> None:
        work.partition.crashed.discard(work.entry.id)
        await self._bookkeeping.clear_crashes(work.partition.name, work.entry.id)
        self._at_risk = None

    # What is read.

    async def _read(self) -> None:
        if self._circuit.is_open:
            self._progress.hold("reading", FailingError())
            await wait_for_event(self._stop, within=TRIAL_EVERY)
        if not any(one.has_room for one in self._partitions.values()):
            await self._save_behind()
            await wait_for_event(self._awake, within=self._until_next_due())
            return
        if not await self._wait_for_entries():
            # Only now: whoever adds one entry after the other need not wait for this each time.
            await self._save_behind()
        if not self._circuit.is_open:
            self._progress.release("reading")

    def _with_room(self) -> dict[str, OwnPartition]:
        return {one.name: one for one in self._partitions.values() if one.has_room}

    async def _take(self, partitions: Mapping[str, OwnPartition], *, block: int | None) -> int:
        """Take what there is, or comes within so many ms; returns how many entries."""
        if not partitions:
            return 0
        cursors = {name: one.cursor for name, one in partitions.items()} | self._ownership.bell
        with translated_errors():
            reply = await self._reader.xread(
                cast("dict[Any, Any]", cursors), count=self._batch, block=block
            )
        taken = {
            name.decode(): entries_of(entries)
            for name, entries in cast("dict[bytes, Any]", reply or {}).items()
        }
        for bell in self._ownership.bell.keys() & taken.keys():
            self._ownership.hear(taken.pop(bell)[-1].id)
        for name, entries in taken.items():
            partitions[name].add(entries)
        return sum(map(len, taken.values()))

    async def _wait_for_entries(self) -> bool:
        """Take what comes next; False if nothing does in time, or there is something else to do.

        Nothing goes with a read that is given up: no cursor has moved by it.
        """
        if self._awake.is_set() or self._stop.is_set():
            return False
        taken, partitions = 0, self._with_room()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None) as waiting:
                self._waiting, self._ownership.is_listening = waiting, True
                try:
                    block = max(1, milliseconds(self._until_next_due()))
                    taken = await self._take(partitions, block=block)
                finally:
                    self._waiting, self._ownership.is_listening = None, False
        if taken == 1:
            # Of what is added at once the server gives the first to who waits, before it has the
            # others: these would be a batch of their own, and wait for this one's end.
            await self._take(partitions, block=None)
        return taken > 0

    async def _save_behind(self) -> None:
        if behind := [one for one in self._partitions.values() if one.is_behind]:
            await self._save(behind)

    def _until_next_due(self) -> timedelta:
        now = time.monotonic()
        due = (one.held.next_due for one in self._partitions.values())
        is_behind = any(one.is_behind for one in self._partitions.values())
        longest = min(self._block, SAVE_AFTER) if is_behind else self._block
        waits = [longest.total_seconds(), *(at - now for at in due if at is not None)]
        return timedelta(seconds=max(0, min(waits)))

    async def _check(self) -> None:
        """Read again what may have come in other places: a stream can lose what was read."""
        self._checked_at = time.monotonic()
        await self._note([], list(self._partitions.values()), always=True)
        self._is_unsure = False
        # However much there is to do: what is parked must not heap up.
        await self._save([one for one in self._partitions.values() if one.has_parked])

    async def _note(
        self, chunk: Sequence[Work], partitions: Sequence[OwnPartition], *, always: bool = False
    ) -> bool:
        """Note what is about to begin; returns whether partitions are to be read again first."""
        last = {work.partition: work.entry.id for work in chunk}
        running = {
            one.name: max(one.suspect_until, entry_id(last.get(one, "0-0")))
            for one in partitions
            if one in last or one.has_suspects
        }
        begun = {work.partition for work in chunk}
        compared = [
            one for one in partitions if always or one in begun or one.shown != one.position
        ]
        shown = await self._bookkeeping.note(
            running={name: f"{id_[0]}-{id_[1]}" for name, id_ in running.items()},
            positions=[(one.name, one.position) for one in compared],
            held={one.name: len(one.held) for one in partitions if one.shown_held != len(one.held)},
        )
        for one in partitions:
            one.shown_held = len(one.held)
        went_back = [self._goes_back(one, shown[one.name]) for one in compared]
        return any(went_back)

    def _goes_back(self, partition: OwnPartition, shown: EntryId) -> bool:
        """Go back to where Redis says that this was, when it may be another one by now.

        A replica that takes over may lack the newest entries, and give smaller ids to the next
        ones. What it shows came after all entries before, so up to there it lacks none.
        """
        has_lost = shown < entry_id(partition.shown or partition.owned.position)
        partition.shown = partition.position
        if shown >= entry_id(partition.position) or not (has_lost or self._is_unsure):
            return False
        position = f"{shown[0]}-{shown[1]}"
        log.info("stream.read_again", stream=partition.name, position=position)
        partition.go_back(position)
        return True


def _work_in(partition: OwnPartition, entries: Iterable[Entry]) -> Iterator[Work]:
    return (Work(partition, entry) for entry in entries)
