"""One process's consumer of one stream: reads, runs handlers, keeps and returns entries."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta

import structlog

from shared.domain.errors import UnavailableError
from shared.settings import ConsumerSettings
from shared.streams.backoff import Backoff
from shared.streams.circuit import Circuit
from shared.streams.crowd import Crowd
from shared.streams.entries import Entry
from shared.streams.group import Group
from shared.streams.processor import Processor
from shared.streams.progress import Progress
from shared.streams.slots import Slots
from shared.streams.subscription import Subscription

log = structlog.get_logger(__name__)

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
