"""One process's consumer of one stream: reads, runs handlers, keeps and returns entries."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from datetime import timedelta

import structlog

from shared.background import Backoff
from shared.domain.errors import UnavailableError
from shared.settings import ConsumerSettings
from shared.streams.consuming.group import Group
from shared.streams.consuming.health import Circuit, Progress
from shared.streams.consuming.processor import Processor
from shared.streams.consuming.subscription import Subscription
from shared.streams.entries import Entry

log = structlog.get_logger(__name__)

# The places in which a consumer's handlers run.


class Slots:
    """A semaphore that tells how many places are free."""

    def __init__(self, number: int) -> None:
        self._semaphore = asyncio.Semaphore(number)
        self.free = number

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncGenerator[None]:
        """Hold a place for the length of the block."""
        async with self._semaphore:
            self.free -= 1
            try:
                yield
            finally:
                self.free += 1

    async def wait_for_free(self) -> int:
        """Wait until at least one place is free; returns how many are."""
        async with self._semaphore:
            return max(1, self.free)


# Who works in a process: many beside each other, or one alone.
#
# When a process dies, everything that was being worked on in it may have been the cause.
# Only what was alone is found out.


class Crowd:
    """Shared by all that takes entries in a process."""

    def __init__(self) -> None:
        self._number = 0
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._loner = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def beside_others(self) -> AsyncGenerator[None]:
        """Work beside others, once nobody is alone or waits to be."""
        while not self._is_open.is_set():
            await self._is_open.wait()
        self._number += 1
        self._is_empty.clear()
        try:
            yield
        finally:
            self._number -= 1
            if not self._number:
                self._is_empty.set()

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncGenerator[None]:
        """Work alone, once everybody has finished; nobody new begins meanwhile."""
        async with self._loner:
            self._is_open.clear()
            try:
                await self._is_empty.wait()
                yield
            finally:
                self._is_open.set()


# One read's size: bounds the memory that entries waiting for a place take up.
MOST_PER_READ = 1_000

# How often an event is tried while nearly all of them fail.
TRIAL_EVERY = timedelta(seconds=1)


class Consumer:
    """Reads new entries while places are free and hands them to the processor."""

    def __init__(
        self,
        group: Group,
        subscription: Subscription,
        processor: Processor,
        *,
        slots: Slots,
        crowd: Crowd,
        circuit: Circuit,
        progress: Progress,
        stop: asyncio.Event,
        settings: ConsumerSettings,
    ) -> None:
        self._group = group
        self._subscription = subscription
        self._processor = processor
        self._slots = slots
        self._crowd = crowd
        self._circuit = circuit
        self._progress = progress
        self._stop = stop
        self._block = settings.stream_block
        self._lease = settings.stream_lease
        self._in_flight: dict[str, float] = {}

    async def run(self) -> None:
        """Read until stopped, then return once everything in flight has ended."""
        backoff = Backoff()
        async with asyncio.TaskGroup() as tasks:
            while not self._stop.is_set():
                try:
                    entries = await self._read()
                    backoff.reset()
                except UnavailableError as error:
                    self._progress.hold("reading", str(error))
                    log.warning("stream.unavailable", stream=self._group.stream, error=str(error))
                    await asyncio.sleep(backoff.next())
                    continue
                for chunk in _chunks(entries, self._subscription.batch):
                    tasks.create_task(self.take(chunk), name=f"{self._group.stream} {chunk[0].id}")

    async def take(self, entries: Sequence[Entry]) -> None:
        """Process entries in a place of their own, keeping them for as long as that takes."""
        self._keep_from_now(entries)
        async with self._slots.one(), self._crowd.beside_others():
            await self._process(entries)

    async def take_alone(self, entry: Entry) -> None:
        """Process an entry at once; that nothing else is under way is the caller's business."""
        self._keep_from_now([entry])
        await self._process([entry])

    def holds(self, entry_id: str) -> bool:
        """Tell whether this process is working on the entry right now."""
        return entry_id in self._in_flight

    async def keep(self) -> None:
        """Renew the lease on everything in flight for long enough to need it."""
        old = time.monotonic() - self._lease.total_seconds() / 3
        aged = [entry_id for entry_id, since in self._in_flight.items() if since < old]
        await self._group.keep(aged)

    async def hand_back(self) -> None:
        """Give up what is still in flight, so that another consumer takes it over at once."""
        await self._group.hand_back(list(self._in_flight), lease=self._lease)

    def _keep_from_now(self, entries: Sequence[Entry]) -> None:
        since = time.monotonic()
        self._in_flight.update((entry.id, since) for entry in entries)

    async def _process(self, entries: Sequence[Entry]) -> None:
        ended = await self._processor.process(entries)
        # What a stop cut short, here or by cancellation, stays for `hand_back`.
        if ended or not self._stop.is_set():
            for entry in entries:
                self._in_flight.pop(entry.id, None)

    async def _read(self) -> list[Entry]:
        free = await self._slots.wait_for_free()
        if self._stop.is_set():  # it may have been a long wait
            return []
        count = min(free * self._subscription.batch, MOST_PER_READ)
        if self._circuit.is_open:
            self._progress.hold("reading", "nearly every event fails")
            await asyncio.sleep(TRIAL_EVERY.total_seconds())
            count = 1
        entries = await self._group.read(count=count, block=self._block)
        if not self._circuit.is_open:
            self._progress.release("reading")
        return entries


def _chunks(entries: Sequence[Entry], size: int) -> Iterator[Sequence[Entry]]:
    for start in range(0, len(entries), size):
        yield entries[start : start + size]
