"""Tasks that live as long as a block of code, and loops that nothing ends but their owner."""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from datetime import timedelta
from typing import Any

from shared.observability.metrics import STARTED, until_next
from shared.observability.outages import Outages

CANCEL_AGAIN = timedelta(milliseconds=100)
LONGEST_PAUSE = timedelta(seconds=2)


@contextlib.asynccontextmanager
async def background(work: Coroutine[Any, Any, None], *, name: str) -> AsyncGenerator[None]:
    """Run `work` beside the block, and cancel it at the block's end.

    When it fails, the block is cancelled and the failure raised. What the block itself
    raises comes out as it is, not in a group.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(work, name=name)
            try:
                yield
            finally:
                await end(task)
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task until it ends: a library can lose a cancellation, see `cancellation_kept`."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_AGAIN.total_seconds())


@contextlib.contextmanager
def cancellation_kept() -> Generator[None]:
    """Raise `CancelledError` at the end of a block in which this task was cancelled and went on.

    `asyncio.wait_for` up to Python 3.11 returns what it waited for when a cancellation meets it,
    and the clients of Redis and PostgreSQL use it for each command. Without this the task would go
    on, and a group of tasks, which cancels each of them once, would wait for it for ever.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:  # nothing runs here
        task = None
    before = 0 if task is None else task.cancelling()
    try:
        yield
    finally:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError


class Backoff:
    """A loop that waits before every round but the first; leave it on success.

        async for _ in Backoff():
            try:
                return await call()
            except UnavailableError as error:
                log.warning("not.yet", error=str(error))

    Each wait is between zero and a ceiling that doubles from `first` to `longest`: full jitter,
    so that processes do not march in step. A wait ends early, and with it the loop, once `stop`
    is set. With `rounds` the loop ends after that many and the wait that follows the last.
    """

    def __init__(
        self,
        *,
        first: timedelta = timedelta(milliseconds=100),
        longest: timedelta = LONGEST_PAUSE,
        stop: asyncio.Event | None = None,
        rounds: int | None = None,
    ) -> None:
        self._ceiling = min(first, longest)
        self._longest = longest
        self._stop = stop
        self._rounds_left = rounds
        self._is_first = True

    def __aiter__(self) -> "Backoff":
        return self

    async def __anext__(self) -> None:
        if not self._is_first:
            await self._wait()
        self._is_first = False
        if self._rounds_left is not None:
            if not self._rounds_left:
                raise StopAsyncIteration
            self._rounds_left -= 1

    async def _wait(self) -> None:
        seconds = self._ceiling * random.uniform(0, 1)  # noqa: S311 (jitter, not a secret)
        self._ceiling = min(self._longest, self._ceiling * 2)
        if self._stop is None:
            await asyncio.sleep(seconds.total_seconds())
        elif await wait_for_event(self._stop, within=seconds):
            raise StopAsyncIteration


async def repeat(
    step: Callable[[], Awaitable[object]],
    *,
    outages: Outages,
    activity: str,
    every: timedelta | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Do a step again and again, until `stop` is set or the task is cancelled.

    With `every` each is done when the process has lived for a multiple of that, together with what
    others do then: a process at rest pays more for waking up than for what it does. Whatever a step
    raises is an outage of this activity, and the step done again: no answer of a server may end a
    process.
    """
    stop, has_failed = stop or asyncio.Event(), False
    now = asyncio.get_running_loop().time
    while not stop.is_set():
        if every is not None:
            pause = until_next(every, now=now() - STARTED)
            if await wait_for_event(stop, within=pause):
                return
        async for _ in Backoff(longest=every or LONGEST_PAUSE, stop=stop):
            try:
                await step()
            except Exception as error:  # noqa: BLE001 (see above)
                outages.failed(activity, error)
                has_failed = True
            else:
                if has_failed:
                    outages.worked(activity)
                has_failed = False
                break


async def wait_for_event(event: asyncio.Event, *, within: timedelta) -> bool:
    """Wait until an event is set, but no longer than that; returns whether it is."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within.total_seconds()):
            await event.wait()
    return event.is_set()
