"""A task that lives as long as a block of code."""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Coroutine
from datetime import timedelta
from typing import Any

# Waiting longer after each failure, with jitter so that processes do not march in step.


class Backoff:
    """Full jitter between zero and a ceiling that doubles from `first` to `longest`."""

    def __init__(
        self,
        *,
        first: timedelta = timedelta(milliseconds=100),
        longest: timedelta = timedelta(seconds=2),
    ) -> None:
        self._first = first
        self._longest = longest
        self._ceiling = first

    def next(self) -> float:
        """Return how many seconds to wait this time."""
        ceiling = self._ceiling
        self._ceiling = min(self._longest, ceiling * 2)
        return random.uniform(0, ceiling.total_seconds())  # noqa: S311 (jitter, not a secret)

    def reset(self) -> None:
        """Start again from the shortest wait."""
        self._ceiling = self._first


CANCEL_AGAIN = timedelta(milliseconds=100)


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


async def end(task: asyncio.Task[None]) -> None:
    """Cancel a task until it ends.

    Once is not enough: a cancellation that meets an answer just arriving can get lost in
    the Redis client, and the task would go on for ever.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_AGAIN.total_seconds())
