"""The defects that the promises guard against, as parts to use instead of good ones."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from redis.asyncio import Redis

from shared.domain.errors import PermanentError
from shared.events.data import LeadCreated
from shared.events.envelope import Event, new_id
from shared.events.outcome import Outcome
from shared.redis_connections import milliseconds
from shared.settings import ConsumerSettings
from shared.streams.codec import Entry, entries_of
from shared.streams.consuming.consumer import Consumer, RWLock
from shared.streams.consuming.group import Group
from shared.streams.consuming.reclaimer import Reclaimer
from shared.streams.consuming.settlement import Settlement
from shared.streams.consuming.subscription import Handler, Subscription


class AcknowledgesOnReading(Group):
    """Acknowledges what it reads, before anything has come of it."""

    async def read(self, *, count: int, block: timedelta) -> list[Entry]:
        entries = await super().read(count=count, block=block)
        if entries:
            await self._writer.xack(self.stream, self.name, *(entry.id for entry in entries))
        return entries


class ForgetsEvents:
    """A handler that takes each delivery for a new event about a new lead.

    As without a table of events, and with leads' ids made up on delivery.
    """

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def __call__(self, events: Sequence[Event]) -> Sequence[Outcome]:
        return await self._handler([_made_anew(event) for event in events])


class ForgetsReplays(ForgetsEvents):
    """A handler that takes a replayed event for one that was sent just now."""

    async def __call__(self, events: Sequence[Event]) -> Sequence[Outcome]:
        return await super().__call__([replace(event, replay_id=None) for event in events])


class NaiveReclaimer(Reclaimer):
    """XAUTOCLAIM in batches, and what was delivered too often is dead: the usual way."""

    def __init__(
        self,
        group: Group,
        subscription: Subscription,
        consumer: Consumer,
        settlement: Settlement,
        *,
        lock: RWLock,
        settings: ConsumerSettings,
        redis: Redis,
    ) -> None:
        super().__init__(group, subscription, consumer, settlement, lock=lock, settings=settings)
        self._redis = redis

    async def reclaim(self) -> int:
        group = self._group
        reply = await self._redis.xautoclaim(
            group.stream, group.name, group.consumer, milliseconds(self._lease), count=100
        )
        claimed = entries_of(reply[1])
        good: list[Entry] = []
        for entry in claimed:
            [row] = await self._redis.xpending_range(
                group.stream, group.name, entry.id, entry.id, 1
            )
            if int(row["times_delivered"]) > self._max_deliveries:
                error = PermanentError("delivered too often", code="crash")
                await self._settlement.park(entry, error, reason="crash")
            else:
                good.append(entry)
        if good:
            await self._consumer.take(good)
        return 0


def _made_anew(event: Event) -> Event:
    data = event.data
    if isinstance(data, LeadCreated):
        data = data.model_copy(update={"lead_id": new_id()})
    return replace(event, id=new_id(), data=data)
