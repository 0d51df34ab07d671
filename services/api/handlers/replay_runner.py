"""Replays that run beside the requests, until they are over or the process ends."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from datetime import timedelta

import structlog

from shared.administration.replays import Replays
from shared.background import end
from shared.domain.errors import PermanentError, TransientError
from shared.events.replay import ReplayOrder
from shared.observability.logging import frames
from shared.storage.admin_log import AdminLog, Recording
from shared.streams.replays.jobs import ReplayProgress

log = structlog.get_logger(__name__)

# By this name the log of operators' actions knows who acts through the API.
ACTOR = "api"

# A replay that is told to stop does so between two pages.
STOPPING = timedelta(seconds=3)


class ReplayRunner:
    """Runs replays. One that is cut short keeps its position, and can be gone on with anywhere."""

    def __init__(self, replays: Replays, actions: AdminLog) -> None:
        self._replays = replays
        self._actions = actions
        self._stop = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, order: ReplayOrder) -> None:
        """Record the action and begin, unless this process is at it already.

        Raises `UnavailableError`: then nothing has begun.
        """
        if order.id in self._tasks:
            return
        detail = {"id": order.id, "group": order.group, "stream": order.stream}
        async with contextlib.AsyncExitStack() as stack:
            recording = await stack.enter_async_context(
                self._actions.recording("replay", actor=ACTOR, detail=detail)
            )
            recorded = stack.pop_all()
        task = asyncio.create_task(self._run(order, recording, recorded), name=f"replay {order.id}")
        self._tasks[order.id] = task
        task.add_done_callback(lambda ended: self._forget(order.id, ended))

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
                replayer = self._replays.replayer(order, stop=self._stop, watch=_look_away)
                recording.affected = (await replayer.run()).added
        except (TransientError, PermanentError) as error:
            log.warning("replay.broken_off", replay_id=order.id, error=str(error))

    def _forget(self, replay_id: str, task: asyncio.Task[None]) -> None:
        del self._tasks[replay_id]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("replay.defect", replay_id=replay_id, traceback=frames(error))


def _look_away(_progress: ReplayProgress) -> None:
    """Whoever wants to know how far a replay has come asks for it."""
