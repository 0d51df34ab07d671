"""Giving an ordered stream another number of partitions: the beginning of it, and how far it is."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import timedelta

from ops.running import Servers
from shared.background import wait_for_event
from shared.events.partitions import Division, Layout
from shared.storage.partitions import PartitionRepository
from shared.streams.inspection import Inspector
from shared.streams.ordering.layout import Divisions
from shared.streams.ordering.overview import living_members

LOOK_AGAIN = timedelta(milliseconds=500)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remaining:
    """What is to be done before the new partitions open; `entries` is None when very many.

    `is_attended` is whether any syncer lives that could do it.
    """

    entries: int | None
    held: int
    is_attended: bool

    @property
    def all(self) -> int:
        """Everything there is to do, as far as it is known."""
        return (self.entries or 0) + self.held


class Redivision:
    """A change of a stream's partitions. The syncers carry it out, whoever looks on."""

    def __init__(self, servers: Servers, stream: str) -> None:
        self._stream = stream
        self._store = PartitionRepository(servers.database)
        self._redis = servers.redis
        self._divisions = Divisions(servers.redis)
        self._inspector = Inspector(servers.redis, self._store)

    async def division(self) -> Division | None:
        """Return how the stream is divided; None when it never was."""
        return await self._store.division(self._stream)

    async def is_attended(self) -> bool:
        """Return whether a syncer lives."""
        return bool(await living_members(self._store, self._redis, self._stream))

    async def begin(self, last: Layout, *, partitions: int) -> Division:
        """Close the stream until what is in its last layout is done, unless another change is."""
        division = await self._store.divide(
            self._stream, number=last.number + 1, partitions=partitions, is_open=False
        )
        await self._divisions.publish(division)
        return division

    async def until_open(self, stop: asyncio.Event) -> AsyncGenerator[Remaining]:
        """Yield what remains to be done, again and again, until the new partitions are open.

        Ends early once `stop` is set.
        """
        while (division := await self.division()) is None or not division.is_open:
            state = await self._inspector.look(self._stream)
            lags = [group.lag for group in state.groups]
            yield Remaining(
                entries=None if None in lags else sum(lag or 0 for lag in lags),
                held=sum(group.retries or 0 for group in state.groups),
                is_attended=await self.is_attended(),
            )
            if await wait_for_event(stop, within=LOOK_AGAIN):
                return
