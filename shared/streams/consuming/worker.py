"""Everything that runs for one subscription in one process, from opening to leaving the group.

What a worker does with an entry is read in three files: here, `consumer`, `processor`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog
from redis.asyncio import Redis

from shared.background import Backoff, background, end, repeat
from shared.observability.logging import error_fields
from shared.settings import ConsumerSettings
from shared.streams.consuming.consumer import Consumer, RWLock
from shared.streams.consuming.group import Group
from shared.streams.consuming.health import ConsumerCircuit, OutageWait, WorkerHealth
from shared.streams.consuming.housekeeping import HOUSEKEEP_EVERY, Housekeeping
from shared.streams.consuming.processor import Processor
from shared.streams.consuming.reclaimer import Reclaimer
from shared.streams.consuming.retry import RetryQueue
from shared.streams.consuming.settlement import DeadLetterStore, Settlement
from shared.streams.consuming.subscription import Subscription
from shared.streams.troubles import TELL_EVERY

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What makes the parts of a worker in which the fault suite puts defects."""

    group: Callable[..., Group] = Group
    settlement: Callable[..., Settlement] = Settlement
    reclaimer: Callable[..., Reclaimer] = Reclaimer


PARTS = Parts()


class Worker:
    """A consumer with what goes on beside it: leases, retries, entries of the dead, trimming."""

    def __init__(
        self,
        writer: Redis,
        group: Group,
        subscription: Subscription,
        *,
        dead_letters: DeadLetterStore,
        housekeeping: Housekeeping,
        lock: RWLock,
        settings: ConsumerSettings,
        stop: asyncio.Event,
        parts: Parts,
    ) -> None:
        self._group = group
        self._housekeeping = housekeeping
        self._settings = settings
        self._stop = stop
        self._health = WorkerHealth(
            writer,
            housekeeping,
            stream=group.stream,
            consumer=group.consumer,
            timeout=subscription.deadline + settings.stream_block * 5,
        )
        self._progress = self._health.progress
        circuit = ConsumerCircuit(stream=group.stream, group=group.name)
        wait = OutageWait(self._progress, stop)
        self._settlement = parts.settlement(writer, group, dead_letters=dead_letters, outages=wait)
        self._retries = RetryQueue(writer, stream=group.stream, group=group.name)
        processor = Processor(
            subscription,
            self._settlement,
            retries=self._retries,
            max_attempts=settings.stream_max_attempts,
            circuit=circuit,
            outages=wait,
        )
        self._consumer = Consumer(
            group,
            subscription,
            processor,
            lock=lock,
            circuit=circuit,
            progress=self._progress,
            settings=settings,
            stop=stop,
        )
        self._reclaimer = parts.reclaimer(
            group, subscription, self._consumer, self._settlement, lock=lock, settings=settings
        )

    @property
    def stream(self) -> str:
        """The stream that is consumed."""
        return self._group.stream

    async def check(self) -> None:
        """Raise `UnavailableError` when the consumer does not move."""
        await self._health.check()

    async def run(self) -> None:
        """Consume until stopped, then drain: what does not end in time is handed back."""
        name = f"settlement {self._group.stream}"
        async with (
            background(self._settlement.endings.run(), name=name),
            asyncio.TaskGroup() as tasks,
        ):
            chores = [
                tasks.create_task(
                    repeat(
                        chore,
                        every=span,
                        stop=self._stop,
                        outages=self._housekeeping.outages,
                        activity=f"{chore.__name__.strip('_')} {self._group.stream}",
                    ),
                    name=f"chore {chore.__name__}",
                )
                for chore, span in self._chores()
            ]
            consuming = tasks.create_task(self._consume(), name=f"consume {self._group.stream}")
            await self._stop.wait()
            deadline = self._settings.shutdown_deadline.total_seconds()
            await asyncio.wait([consuming], timeout=deadline)
            for task in (consuming, *chores):
                await end(task)
        await self._leave()

    def _chores(self) -> list[tuple[Callable[[], Awaitable[None]], timedelta | None]]:
        lease = self._settings.stream_lease
        return [
            (self._consumer.keep, lease / 3),
            (self._reclaim, lease / 4),
            (self._move_due, None),
            (self._housekeeping.run, HOUSEKEEP_EVERY),
            (self._health.tell_troubles, TELL_EVERY),
        ]

    async def _consume(self) -> None:
        await self._join()
        await self._consumer.run()

    async def _join(self) -> None:
        async for _ in Backoff(stop=self._stop):
            try:
                await self._group.ensure()
            except Exception as error:  # noqa: BLE001 (whatever the server says, it may pass)
                self._progress.hold("reading", error)
            else:
                self._progress.release("reading")
                return

    async def _reclaim(self) -> None:
        # The lease is over for more than one page: go on while there is something to claim.
        while await self._reclaimer.reclaim():
            pass

    async def _move_due(self) -> None:
        await self._retries.until_due()
        while await self._retries.move_due():
            pass

    async def _leave(self) -> None:
        try:
            await self._consumer.hand_back()
            await self._group.leave()
            await self._health.fall_silent()
        except Exception as error:  # noqa: BLE001 (whatever the server says)
            # The lease ends by itself, and with it this consumer's claim.
            log.warning("group.not_left", stream=self._group.stream, **error_fields(error))
