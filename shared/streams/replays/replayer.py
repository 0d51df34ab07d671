"""Running a replay: no faster than its group handles what is put back."""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TypeAlias

import structlog
from redis.asyncio import Redis

from shared.background import Backoff, background, wait_for_event
from shared.domain.errors import TransientError, UnavailableError
from shared.events.replay import ReplayOrder, ReplayPage, ReplaySource
from shared.streams.codec import EntryId
from shared.streams.consuming.group import finished_before, last_entry
from shared.streams.consuming.retry import RetryQueue
from shared.streams.ordering.bookkeeping import count_held
from shared.streams.ordering.layout import Divisions
from shared.streams.replays.jobs import (
    ReplayJobs,
    ReplayProgress,
    ReplayState,
    note_copies,
    remove_copies,
)

log = structlog.get_logger(__name__)

# How much may wait in the stream at once, ahead of any new event.
IN_FLIGHT = 600

POLL = timedelta(milliseconds=20)
# How often what is done with is taken out of the streams: that takes some round trips for each.
REMOVE_EVERY = timedelta(milliseconds=500)
# Without any report for so long, look whether the group is done without having reported.
SILENCE = timedelta(seconds=2)

# A replay that takes longer than this says how much it is about.
COUNT_AFTER = timedelta(seconds=1)

Watcher: TypeAlias = Callable[[ReplayProgress], None]


def ignore_progress(_progress: ReplayProgress) -> None:
    """Show nothing: it can be asked for."""


class Replayer:
    """Puts a source's events back into the stream and sees them handled.

    Ends early, with the position kept, once `stop` is set or the replay is cancelled. Outages are
    waited out.
    """

    def __init__(
        self,
        redis: Redis,
        order: ReplayOrder,
        source: ReplaySource,
        *,
        stop: asyncio.Event,
        watch: Watcher = ignore_progress,
        in_flight: int = IN_FLIGHT,
        divisions: Divisions | None = None,
    ) -> None:
        self._redis = redis
        self._divisions = divisions or Divisions(redis)
        self._jobs = ReplayJobs(redis, self._divisions)
        self._order = order
        self._source = source
        self._stop = stop
        self._watch = watch
        self._in_flight = in_flight
        self._pace = Pace(order.rate)

    async def run(self) -> ReplayProgress:
        """Replay until all is handled, stopped or cancelled; returns how far that came.

        Raises `PermanentError` when the order is being run by another process too.
        """
        async with background(self._count(), name=f"chore count {self._order.id}"):
            async for _ in Backoff(stop=self._stop):
                try:
                    await self._run()
                    break
                except UnavailableError as error:
                    log.warning("replay.waits", replay_id=self._order.id, error=str(error))
        return await self._jobs.progress(self._order.id)

    async def _count(self) -> None:
        """Count what there is to add, beside the adding: it may take long.

        Not of a replay that is over before: what is cut short costs its connection.
        """
        replay_id = self._order.id
        if await wait_for_event(self._stop, within=COUNT_AFTER):
            return
        try:
            if (await self._jobs.progress(replay_id)).planned is None:
                counts = await self._source.counts()
                await self._jobs.note_planned(replay_id, sum(counts.values()))
        except (TransientError, TimeoutError) as error:
            log.warning("replay.not_counted", replay_id=replay_id, error=str(error))

    async def _run(self) -> None:
        progress = await self._jobs.progress(self._order.id)
        if progress.state is ReplayState.ADDING:
            await self._add_all(progress.position)
        if await self._settled(at_most=0):
            await self._remove_rest()
            await self._jobs.note_finished(self._order.id)

    async def _remove_rest(self) -> None:
        """Remove what is left in the streams: groups may show a little later how far they are."""
        give_up = time.monotonic() + SILENCE.total_seconds()
        while await self._remove_finished() and time.monotonic() < give_up:
            if await wait_for_event(self._stop, within=POLL):
                return

    async def _remove_finished(self) -> bool:
        """Remove what all groups are done with; returns whether anything is left."""
        streams = await self._divisions.streams_of(self._order.stream)
        return any([await remove_copies(self._redis, stream) for stream in streams])

    async def _add_all(self, position: str | None) -> None:
        removed_at = time.monotonic()
        async for page in self._source.pages(after=position):
            room = self._in_flight - len(page.events)
            if page.events and not await self._settled(at_most=max(0, room)):
                return
            await self._pace.wait(len(page.events), stop=self._stop)
            if self._stop.is_set() or await self._is_cancelled():
                return
            await self._add(page, after=position)
            position = page.position
            if time.monotonic() - removed_at > REMOVE_EVERY.total_seconds():
                await self._remove_finished()
                removed_at = time.monotonic()
        await self._jobs.note_added(self._order.id)

    async def _is_cancelled(self) -> bool:
        progress = await self._jobs.progress(self._order.id)
        self._watch(progress)
        return progress.state is ReplayState.CANCELLED

    async def _add(self, page: ReplayPage, *, after: str | None) -> None:
        try:
            await note_copies(
                self._redis, await self._jobs.add_page(self._order, page, after=after)
            )
        except UnavailableError:
            # The answer may be lost and the page added all the same: the position shows it.
            progress = await self._jobs.progress(self._order.id)
            if progress.position != page.position:
                raise

    async def _settled(self, *, at_most: int) -> bool:
        """Wait until no more than so many are outstanding; False when stopped or cancelled."""
        heard_at, settled = time.monotonic(), -1
        silent_at: Mapping[str, EntryId] | None = None
        while not self._stop.is_set():
            progress = await self._jobs.progress(self._order.id)
            self._watch(progress)
            if progress.state is ReplayState.CANCELLED:
                return False
            if progress.outstanding <= at_most:
                return True
            if progress.settled != settled:
                heard_at, settled, silent_at = time.monotonic(), progress.settled, None
            elif time.monotonic() - heard_at > SILENCE.total_seconds():
                silent_at = silent_at or await self._last_entries()
                if await self._is_past(silent_at):
                    return True
                heard_at = time.monotonic()
            await asyncio.sleep(POLL.total_seconds())
        return False

    async def _last_entries(self) -> Mapping[str, EntryId]:
        """Return the last entry of each stream that holds the order's events, if it has any."""
        streams = await self._divisions.streams_of(self._order.stream)
        found = [(stream, await last_entry(self._redis, stream)) for stream in streams]
        return {stream: entry for stream, entry in found if entry is not None}

    async def _is_past(self, entries: Mapping[str, EntryId]) -> bool:
        """Return whether the group is done with these entries, all before them, and all retries.

        If so, what it never reported on it has passed over.
        """
        order = self._order
        streams = await self._divisions.streams_of(order.stream)
        if await RetryQueue(self._redis, stream=order.stream, group=order.group).waiting():
            return False
        if await count_held(self._redis, streams):
            return False
        for stream, entry in entries.items():
            if await finished_before(self._redis, stream, group=order.group) <= entry:
                return False
        return True


class Pace:
    """Keeps to a rate in events per second; without one it never waits."""

    def __init__(self, rate: int | None) -> None:
        self._rate = rate
        self._next_at = time.monotonic()

    async def wait(self, number: int, *, stop: asyncio.Event) -> None:
        """Wait until so many more events are due, or until `stop` is set."""
        if self._rate is None:
            return
        early = self._next_at - time.monotonic()
        if early > 0:
            await wait_for_event(stop, within=timedelta(seconds=early))
        self._next_at = max(self._next_at, time.monotonic()) + number / self._rate
