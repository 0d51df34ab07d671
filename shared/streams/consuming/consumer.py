"""One process's consumer of one stream: reads entries, runs them, keeps them, hands them back."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from datetime import timedelta

from shared.background import Backoff, wait_for_event
from shared.settings import ConsumerSettings
from shared.streams.codec import Entry
from shared.streams.consuming.group import Group
from shared.streams.consuming.health import ConsumerCircuit, FailingError, Progress
from shared.streams.consuming.processor import Processor
from shared.streams.consuming.subscription import Subscription

# One read's size: bounds the memory that entries waiting for a place take up.
MOST_PER_READ = 1_000

# How often an event is tried while nearly all of them fail.
TRIAL_EVERY = timedelta(seconds=1)


class RWLock:
    """Many readers at once, or one writer; readers that come after a waiting writer wait for it.

    A process shares one between all work on entries. When the process dies, everything that
    was worked on in it may have been the cause; only what ran alone, as a writer, is proven.
    """

    def __init__(self) -> None:
        self._turnstile = asyncio.Lock()
        self._readers = 0
        self._no_readers = asyncio.Event()
        self._no_readers.set()

    @contextlib.asynccontextmanager
    async def reader(self) -> AsyncGenerator[None]:
        """Hold the lock together with other readers."""
        async with self._turnstile:
            self._readers += 1
            self._no_readers.clear()
        try:
            yield
        finally:
            self._readers -= 1
            if not self._readers:
                self._no_readers.set()

    @contextlib.asynccontextmanager
    async def writer(self) -> AsyncGenerator[None]:
        """Hold the lock alone."""
        async with self._turnstile:
            await self._no_readers.wait()
            yield


class Consumer:
    """Reads new entries while places are free and hands them to the processor."""

    def __init__(
        self,
        group: Group,
        subscription: Subscription,
        processor: Processor,
        *,
        lock: RWLock,
        circuit: ConsumerCircuit,
        progress: Progress,
        settings: ConsumerSettings,
        stop: asyncio.Event,
    ) -> None:
        self._group = group
        self._batch = subscription.batch
        self._processor = processor
        self._places = asyncio.Semaphore(subscription.concurrency)
        self._free = subscription.concurrency
        self._lock = lock
        self._circuit = circuit
        self._progress = progress
        self._block = settings.stream_block
        self._lease = settings.stream_lease
        self._stop = stop
        self._in_flight: dict[str, float] = {}

    async def run(self) -> None:
        """Read until stopped, then return once everything in flight has ended."""
        async with asyncio.TaskGroup() as tasks:
            while not self._stop.is_set():
                for chunk in _chunks(await self._next_entries(), self._batch):
                    tasks.create_task(self.take(chunk), name=f"{self._group.stream} {chunk[0].id}")

    async def _next_entries(self) -> Sequence[Entry]:
        async for _ in Backoff(stop=self._stop):
            try:
                return await self._read()
            except Exception as error:  # noqa: BLE001 (whatever the server says, it may pass)
                self._progress.hold("reading", error)
        return ()

    async def _read(self) -> Sequence[Entry]:
        async with self._places:  # wait until one is free
            free = max(1, self._free)
        if self._stop.is_set():  # it may have been a long wait
            return ()
        count = min(free * self._batch, MOST_PER_READ)
        if self._circuit.is_open:
            self._progress.hold("reading", FailingError())
            await wait_for_event(self._stop, within=TRIAL_EVERY)
            count = 1
        entries = await self._group.read(count=count, block=self._block)
        if not self._circuit.is_open:
            self._progress.release("reading")
        return entries

    async def take(self, entries: Sequence[Entry]) -> None:
        """Process entries in a place of their own, keeping them for as long as that takes."""
        self._keep_from_now(entries)
        async with self._places:
            self._free -= 1
            try:
                async with self._lock.reader():
                    await self._process(entries)
            finally:
                self._free += 1

    async def take_alone(self, entry: Entry) -> None:
        """Process an entry at once; the caller holds the lock as a writer."""
        self._keep_from_now([entry])
        await self._process([entry])

    async def _process(self, entries: Sequence[Entry]) -> None:
        has_ended = await self._processor.process(entries)
        # What a stop cut short, here or by cancellation, stays for `hand_back`.
        if has_ended or not self._stop.is_set():
            for entry in entries:
                self._in_flight.pop(entry.id, None)

    def _keep_from_now(self, entries: Sequence[Entry]) -> None:
        since = time.monotonic()
        self._in_flight.update((entry.id, since) for entry in entries)

    def holds(self, entry_id: str) -> bool:
        """Return whether this process is working on the entry right now."""
        return entry_id in self._in_flight

    async def keep(self) -> None:
        """Renew the lease on everything in flight for long enough to need it."""
        old = time.monotonic() - self._lease.total_seconds() / 3
        aged = [entry_id for entry_id, since in self._in_flight.items() if since < old]
        await self._group.keep(aged)

    async def hand_back(self) -> None:
        """Give up what is still in flight, so that another consumer takes it over at once."""
        await self._group.hand_back(list(self._in_flight), lease=self._lease)


def _chunks(entries: Sequence[Entry], size: int) -> Iterator[Sequence[Entry]]:
    for start in range(0, len(entries), size):
        yield entries[start : start + size]
