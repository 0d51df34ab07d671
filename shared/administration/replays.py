"""Ordering replays: what they would do, and running them."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import structlog
from redis.asyncio import Redis

from shared.background import end
from shared.domain.errors import PermanentError, TransientError, UnavailableError
from shared.events.catalog import FLOWS, ORDERED, groups_of
from shared.events.replay import ReplayOrder, ReplayOrigin, ReplaySource, Selection
from shared.observability.logging import frames
from shared.storage.admin_log import AdminLog, Recording
from shared.storage.event_archive import ArchiveSource, EventArchive
from shared.storage.partitions import PartitionRepository
from shared.storage.pool import Database
from shared.streams.codec import EntryId, entry_id
from shared.streams.consuming.group import groups_info, last_entry
from shared.streams.ordering.layout import Divisions
from shared.streams.replays.jobs import ReplayJobs, ReplayState
from shared.streams.replays.replayer import Replayer, Watcher, ignore_progress
from shared.streams.replays.stream_source import StreamSource, oldest_time

log = structlog.get_logger(__name__)

# A replay stops between two pages.
STOPPING = timedelta(seconds=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPlan:
    """What a replay would put back, by type, and what it asks for but cannot get.

    `missing` counts applied events made before the oldest that the stream still holds, which
    was made at `stream_begins` (None: it holds nothing). The archive has them.
    """

    counts: Mapping[str, int]
    missing: Mapping[str, int]
    stream_begins: datetime | None


class Replays:
    """Replays as operators order them."""

    def __init__(self, redis: Redis, database: Database) -> None:
        self._redis = redis
        self._database = database
        self._divisions = Divisions(redis, PartitionRepository(database))
        self.jobs = ReplayJobs(redis, self._divisions)

    async def bounded(self, order: ReplayOrder) -> ReplayOrder:
        """Return the order with its end fixed, so that the replay does not meet itself.

        Raises `PermanentError` with code `unknown-group` or `unknown-type` for what does
        not exist on the stream.
        """
        await self._check_group(order)
        order = replace(order, selection=_on_stream(order))
        if order.origin is ReplayOrigin.ARCHIVE:
            return replace(order, last_position=await EventArchive(self._database).last_position())
        last = await self._last_entry(order.stream)
        if order.last is not None:
            last = min(last, entry_id(order.last))
        return replace(order, last="{}-{}".format(*last))

    async def _last_entry(self, stream: str) -> EntryId:
        streams = await self._divisions.streams_of(stream)
        found = [await last_entry(self._redis, one) for one in streams]
        return max((entry for entry in found if entry is not None), default=(0, 0))

    async def plan(self, order: ReplayOrder) -> ReplayPlan:
        """Count what a bounded order would replay. Changes nothing."""
        counts = await self.source(order).counts()
        if order.origin is ReplayOrigin.ARCHIVE:
            return ReplayPlan(counts=counts, missing={}, stream_begins=None)
        begins = await oldest_time(self._redis, order.stream, self._divisions)
        missing = await EventArchive(self._database).counts(_before(order, begins))
        return ReplayPlan(counts=counts, missing=missing, stream_begins=begins)

    def source(self, order: ReplayOrder) -> ReplaySource:
        """Return where the order's events are read."""
        if order.origin is ReplayOrigin.ARCHIVE:
            return ArchiveSource(self._database, order)
        return StreamSource(self._redis, order, self._divisions)

    def replayer(
        self, order: ReplayOrder, *, stop: asyncio.Event, watch: Watcher = ignore_progress
    ) -> Replayer:
        """Return what runs a saved order from where it stands."""
        return Replayer(
            self._redis,
            order,
            self.source(order),
            stop=stop,
            watch=watch,
            divisions=self._divisions,
        )

    async def _check_group(self, order: ReplayOrder) -> None:
        # The owners of partitions are there before their groups, which only show how far they are.
        groups = dict.fromkeys(groups_of(order.stream) if order.stream in ORDERED else ())
        for stream in await self._divisions.streams_of(order.stream):
            infos = await groups_info(self._redis, stream)
            groups |= dict.fromkeys(info["name"].decode() for info in infos)
        if order.group not in groups:
            raise PermanentError(
                f"{order.stream} has no group {order.group!r}, only: "
                f"{', '.join(groups) or 'none'}. A group is made when its consumer first starts.",
                code="unknown-group",
            )


class ReplayRunner:
    """Runs replays beside other work, until they are over or cancelled, or the process ends.

    One that is cut short keeps its position, and any process can resume it. `actor` is who runs
    them, by the log of operators' actions.
    """

    def __init__(self, replays: Replays, actions: AdminLog, *, actor: str) -> None:
        self._replays = replays
        self._actions = actions
        self._actor = actor
        self._stop = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._starting = asyncio.Lock()

    async def start(self, order: ReplayOrder) -> None:
        """Record the action and begin, unless this process runs the replay already."""
        detail = {"id": order.id, "group": order.group, "stream": order.stream}
        async with self._starting, contextlib.AsyncExitStack() as stack:
            if order.id in self._tasks:
                return
            recording = await stack.enter_async_context(
                self._actions.recording("replay", actor=self._actor, detail=detail)
            )
            run = self._run(order, recording, stack.pop_all())
            self._tasks[order.id] = task = asyncio.create_task(run, name=f"replay {order.id}")
            task.add_done_callback(lambda ended: self._remove_task(order.id, ended))

    async def resume(self, order: ReplayOrder) -> None:
        """Go on with a replay unless it is over, also with one that was cancelled.

        Raises `UnavailableError` while this process is not done with what was cancelled.
        """
        jobs = self._replays.jobs
        state = (await jobs.progress(order.id)).state
        if state is ReplayState.FINISHED:
            return
        if state is ReplayState.CANCELLED:
            # It ends as long as it sees that state, and only then another one may begin.
            ending = [self._tasks[order.id]] if order.id in self._tasks else []
            if ending and (await asyncio.wait(ending, timeout=STOPPING.total_seconds()))[1]:
                raise UnavailableError("The replay has not stopped yet")
            await jobs.revive(order.id)
        await self.start(order)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Run what is started, and stop at the end of the block."""
        try:
            yield
        finally:
            self._stop.set()
            tasks = list(self._tasks.values())
            if tasks:
                await asyncio.wait(tasks, timeout=STOPPING.total_seconds())
            for task in tasks:
                await end(task)

    async def _run(
        self, order: ReplayOrder, recording: Recording, recorded: contextlib.AsyncExitStack
    ) -> None:
        try:
            async with recorded:
                replayer = self._replays.replayer(order, stop=self._stop)
                recording.affected = (await replayer.run()).added
        except (TransientError, PermanentError) as error:
            log.warning("replay.broken_off", replay_id=order.id, error=str(error))

    def _remove_task(self, replay_id: str, task: asyncio.Task[None]) -> None:
        del self._tasks[replay_id]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("replay.defect", replay_id=replay_id, traceback=frames(error))


def _on_stream(order: ReplayOrder) -> Selection:
    types = {flow.event.type for flow in FLOWS if flow.stream == order.stream}
    strangers = sorted(set(order.selection.types) - types)
    if strangers:
        raise PermanentError(
            f"{', '.join(strangers)} does not travel on {order.stream}, "
            f"only: {', '.join(sorted(types)) or 'nothing known'}",
            code="unknown-type",
        )
    if order.origin is ReplayOrigin.STREAM or order.selection.types:
        return order.selection
    return replace(order.selection, types=tuple(sorted(types)))


def _before(order: ReplayOrder, moment: datetime | None) -> Selection:
    """Return the part of what is asked for that was made before a moment."""
    types = tuple(flow.event.type for flow in FLOWS if flow.stream == order.stream)
    asked = order.selection
    ends = [end for end in (asked.until, moment, _time_of(order.last)) if end is not None]
    starts = [start for start in (asked.since, _time_of(order.first)) if start is not None]
    return replace(
        asked,
        types=asked.types or types,
        since=max(starts, default=None),
        until=min(ends, default=None),
    )


def _time_of(entry: str | None) -> datetime | None:
    return None if entry is None else datetime.fromtimestamp(entry_id(entry)[0] / 1000, UTC)
