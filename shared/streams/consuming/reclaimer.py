"""Takes over the entries of dead consumers, one at a time.

A batch that killed its process must not be run as a batch again: the entries around the
killer are innocent. Nor does it prove anything that an entry was there when one process
died and then another, where many are worked on at once. So the last attempt before an entry
is parked for its crashes is made with nothing else under way in the process.
"""

import asyncio
from uuid import UUID

import structlog

from shared.domain.errors import PermanentError
from shared.observability.logging import error_fields
from shared.settings import ConsumerSettings
from shared.streams.codec import Entry, decode
from shared.streams.consuming.consumer import Consumer, RWLock
from shared.streams.consuming.group import Group, Pending
from shared.streams.consuming.settlement import Settlement
from shared.streams.consuming.subscription import Subscription

log = structlog.get_logger(__name__)

# How many are looked at per round; the rest waits for the next one.
PAGE = 100

# Deliveries of an event that is never worked on alone: any other event that kills the process
# is parked long before.
MOST_DELIVERIES_BESIDE_OTHERS = 10


class Reclaimer:
    """Claims entries whose lease is over and runs each by itself."""

    def __init__(
        self,
        group: Group,
        subscription: Subscription,
        consumer: Consumer,
        settlement: Settlement,
        *,
        lock: RWLock,
        settings: ConsumerSettings,
    ) -> None:
        self._group = group
        self._subscription = subscription
        self._consumer = consumer
        self._settlement = settlement
        self._lock = lock
        self._lease = settings.stream_lease
        self._max_deliveries = settings.stream_max_deliveries
        if subscription.waits_for_others:
            self._max_deliveries = max(self._max_deliveries, MOST_DELIVERIES_BESIDE_OTHERS)
        # Of its own: an entry is claimed only once there is a place for it, since a claimed
        # entry that waits looks alive.
        self._places = asyncio.Semaphore(subscription.concurrency)

    async def reclaim(self) -> int:
        """Do one round; returns how many entries were claimed."""
        pending = await self._group.pending(idle=self._lease, count=PAGE)
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self._try(one), name=f"reclaim {one.entry_id}")
                for one in pending
                if not self._consumer.holds(one.entry_id)
            ]
        return sum(task.result() for task in running)

    async def _try(self, pending: Pending) -> bool:
        try:
            return await self._take_over(pending)
        except Exception as error:  # noqa: BLE001 (it is tried again)
            # Here and not around the group of tasks, which would raise a group of errors.
            log.warning("entry.not_reclaimed", entry_id=pending.entry_id, **error_fields(error))
            return False

    async def _take_over(self, pending: Pending) -> bool:
        last_chance = self._max_deliveries - 1
        if pending.deliveries == last_chance:
            async with self._lock.writer():
                entry = await self._claim(pending)
                if entry is not None:
                    await self._consumer.take_alone(entry)
            return entry is not None
        async with self._places:
            entry = await self._claim(pending)
            if entry is None:
                return False
            if pending.deliveries > last_chance:
                await self._end_crashing(entry)
            else:
                await self._consumer.take([entry])
            return True

    async def _claim(self, pending: Pending) -> Entry | None:
        """Take an entry over, unless another consumer has had it since it was seen."""
        if not await self._group.is_unchanged(pending, idle=self._lease):
            return None
        entry = await self._group.claim(pending.entry_id, idle=self._lease)
        if entry is not None:
            log.info(
                "entry.reclaimed",
                stream=self._group.stream,
                entry_id=entry.id,
                from_consumer=pending.consumer,
                deliveries=pending.deliveries,
            )
        return entry

    async def _end_crashing(self, entry: Entry) -> None:
        """Park an entry under which consumers died, unless its effect is complete already."""
        event_id = _event_id(entry)
        if event_id is not None and await self._subscription.is_settled(event_id):
            await self._settlement.acknowledge(entry.id)
            return
        crashes = PermanentError(
            f"{self._max_deliveries} consumers ended while working on it", code="crash"
        )
        await self._settlement.park(entry, crashes, reason="crash")


def _event_id(entry: Entry) -> UUID | None:
    try:
        return decode(entry.fields).id
    except PermanentError:
        return None
