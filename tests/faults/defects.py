"""The defects that the promises guard against, as parts to use instead of good ones."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

from shared.events.data import LeadCreated
from shared.events.envelope import Event, new_id
from shared.events.outcome import Outcome
from shared.events.partitions import Claim, Layout, Partition
from shared.storage.partitions import PartitionRepository
from shared.streams.codec import Entry
from shared.streams.consuming.group import Group
from shared.streams.consuming.subscription import Handler
from shared.streams.ordering.consumer import PartitionConsumer
from shared.streams.ordering.ownership import Ownership
from shared.streams.ordering.processor import Work


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


class MovesOnReading(PartitionConsumer):
    """Moves its position over what it reads, before anything has come of it."""

    async def _read(self) -> None:
        await super()._read()
        read = [one for one in self._partitions.values() if one.cursor != one.position]
        for one in read:
            one.position = one.cursor
        await self._save(read)


class CountsCrashesOfAll(PartitionConsumer):
    """Counts a crash for all that was under way, and parks what was it too often: the usual way."""

    async def _work_on_suspect(self) -> bool:
        return False

    async def _work_on(self, chunk: Sequence[Work]) -> None:
        good: list[Work] = []
        for work in chunk:
            crashes = await self._count_crash(work)
            if crashes > self._most_crashes:
                await self._processor.park_crashing(work, crashes=crashes)
            else:
                good.append(work)
        await super()._work_on(good)
        for work in good:
            await self._clear_crash(work)


class TakesNothingOver(Ownership):
    """Leaves the partitions of the dead alone."""

    async def _claim(self, layout: Layout, free: Sequence[Partition], share: int) -> None:
        await super()._claim(layout, [row for row in free if row.owner is None], share)


class Unfenced(PartitionRepository):
    """Lets any process write, also one that owns nothing any more."""

    @contextmanager
    def fenced(self, positions: Sequence[tuple[Claim, str]]) -> Generator[None]:
        assert positions
        yield


def _made_anew(event: Event) -> Event:
    data = event.data
    if isinstance(data, LeadCreated):
        data = data.model_copy(update={"lead_id": new_id()})
    return replace(event, id=new_id(), data=data)
