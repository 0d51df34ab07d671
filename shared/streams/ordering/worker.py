"""Everything that runs for an ordered stream in one process, from joining to leaving."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from redis.asyncio import Redis

from shared.background import Backoff, end, repeat, wait_for_event
from shared.observability.logging import error_fields
from shared.settings import ConsumerSettings
from shared.streams.consuming.consumer import RWLock
from shared.streams.consuming.health import ConsumerCircuit, OutageWait, WorkerHealth
from shared.streams.consuming.housekeeping import HOUSEKEEP_EVERY, Housekeeping
from shared.streams.consuming.settlement import DeadLetterStore, Settlement
from shared.streams.consuming.subscription import Subscription
from shared.streams.consuming.worker import Worker
from shared.streams.ordering.bookkeeping import Bookkeeping
from shared.streams.ordering.consumer import PartitionConsumer
from shared.streams.ordering.layout import Divisions
from shared.streams.ordering.ownership import LONGEST_TICK, Ownership, PartitionStore
from shared.streams.ordering.partition import MOST_ENTRIES
from shared.streams.ordering.processor import PartitionProcessor
from shared.streams.troubles import TELL_EVERY

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Clients:
    """Clients of Redis: blocking reads have one of their own."""

    writer: Redis
    reader: Redis


@dataclass(frozen=True, slots=True)
class Undivided:
    """What drains the stream from before it had partitions, and ends once `drained` is set."""

    worker: Worker
    drained: asyncio.Event


@dataclass(frozen=True, slots=True)
class _Addressee:
    """Whose dead letters and replies these are."""

    stream: str
    name: str


class PartitionSettlement(Settlement):
    """Answers and parks; nothing is acknowledged, as the position says what is done."""

    def _acknowledge(self, pipeline: object, *entry_ids: str) -> None:
        pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """What makes a process one of those that share an ordered stream; `name` is the process's.

    With `most_held` entries held back in a partition nothing more is read there. The last ones make
    the parts in which the fault suite puts defects.
    """

    store: PartitionStore
    divisions: Divisions
    name: str
    most_held: int = MOST_ENTRIES
    ownership: Callable[..., Ownership] = Ownership
    consumer: Callable[..., PartitionConsumer] = PartitionConsumer
    settlement: Callable[..., Settlement] = PartitionSettlement


class PartitionWorker:
    """A consumer of partitions with what goes on beside it: ownership and trimming."""

    def __init__(
        self,
        clients: Clients,
        subscription: Subscription,
        ordering: Ordering,
        *,
        undivided: Undivided,
        dead_letters: DeadLetterStore,
        housekeeping: Housekeeping,
        lock: RWLock,
        settings: ConsumerSettings,
        stop: asyncio.Event,
    ) -> None:
        self.stream = subscription.stream
        self._stop = stop
        self._undivided = undivided
        self._settings = settings
        self._housekeeping = housekeeping
        self._health = WorkerHealth(
            clients.writer,
            housekeeping,
            stream=subscription.stream,
            consumer=ordering.name,
            timeout=subscription.deadline + settings.stream_block * 5,
        )
        self._progress = self._health.progress
        self._ownership = ordering.ownership(
            ordering.store,
            ordering.divisions,
            clients.writer,
            stream=subscription.stream,
            name=ordering.name,
            lease=settings.stream_lease,
        )
        owner, group = self._ownership.member.token, subscription.group
        self._consumer = ordering.consumer(
            clients.reader,
            self._ownership,
            self._processor(clients.writer, subscription, ordering, dead_letters),
            Bookkeeping(clients.writer, group=group, owner=owner),
            batch=subscription.batch,
            lock=lock,
            progress=self._progress,
            settings=settings,
            stop=stop,
        )

    def _processor(
        self,
        writer: Redis,
        subscription: Subscription,
        ordering: Ordering,
        dead_letters: DeadLetterStore,
    ) -> PartitionProcessor:
        outages = OutageWait(self._progress, self._stop)
        addressee = _Addressee(subscription.stream, subscription.group)
        return PartitionProcessor(
            subscription,
            ordering.settlement(writer, addressee, dead_letters=dead_letters, outages=outages),
            ordering.store,
            max_attempts=self._settings.stream_max_attempts,
            most_held=ordering.most_held,
            circuit=ConsumerCircuit(stream=subscription.stream, group=subscription.group),
            outages=outages,
        )

    async def check(self) -> None:
        """Raise `UnavailableError` when the consumer does not move."""
        await self._health.check()

    async def run(self) -> None:
        """Consume until stopped, then hand over: what does not end in time is done by the next."""
        async with asyncio.TaskGroup() as tasks:
            await self._join()
            chores = [
                tasks.create_task(
                    repeat(
                        chore,
                        every=every,
                        stop=self._stop,
                        outages=self._housekeeping.outages,
                        activity=f"{name} {self.stream}",
                    ),
                    name=f"chore {name}",
                )
                for name, chore, every in (
                    ("ownership", self._ownership.keep_when_due, self._ownership.tick),
                    ("housekeeping", self._housekeeping.run, HOUSEKEEP_EVERY),
                    ("troubles", self._health.tell_troubles, TELL_EVERY),
                )
            ]
            draining = tasks.create_task(self._drain_undivided(), name=f"drain {self.stream}")
            consuming = tasks.create_task(self._consumer.run(), name=f"consume {self.stream}")
            await self._stop.wait()
            self._consumer.wake()
            await draining
            deadline = self._settings.shutdown_deadline.total_seconds()
            await asyncio.wait([consuming], timeout=deadline)
            for task in (consuming, *chores):
                await end(task)
        await self._leave()

    async def _drain_undivided(self) -> None:
        """Have the group apply what came before there were partitions, and which is sealed now."""
        if not self._ownership.is_undivided:
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._undivided.worker.run(), name=f"undivided {self.stream}")
            while self._ownership.is_undivided:
                if await wait_for_event(self._stop, within=LONGEST_TICK):
                    break
            self._undivided.drained.set()

    async def _join(self) -> None:
        async for _ in Backoff(stop=self._stop):
            try:
                await self._ownership.keep()
            except Exception as error:  # noqa: BLE001 (whatever the server says, it may pass)
                self._progress.hold("reading", error)
            else:
                self._progress.release("reading")
                return

    async def _leave(self) -> None:
        try:
            await self._consumer.leave()
            await self._health.fall_silent()
        except Exception as error:  # noqa: BLE001 (whatever the server says)
            # The lease ends by itself, and with it this process's claims.
            log.warning("member.not_left", stream=self.stream, **error_fields(error))
