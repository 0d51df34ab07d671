"""Waiting out an outage: it is nobody's fault and uses up nobody's attempts."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from shared.domain.errors import UnavailableError
from shared.streams.backoff import Backoff
from shared.streams.progress import Progress

Result = TypeVar("Result")


class LeftPendingError(Exception):
    """Stopped while waiting: the entry stays pending and is handed back."""


class Patience:
    """Calls again and again while a dependency is down, until told to stop."""

    def __init__(self, progress: Progress, stop: asyncio.Event) -> None:
        self._progress = progress
        self._stop = stop

    async def wait_out(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Return what `call` returns once it no longer raises `UnavailableError`.

        Raises `LeftPendingError` when the process stops first.
        """
        backoff = Backoff()
        while True:
            try:
                result = await call()
            except UnavailableError as error:
                self._progress.hold("handling", str(error))
                await self._wait(backoff.next(), error)
            else:
                self._progress.release("handling")
                return result

    async def _wait(self, seconds: float, error: UnavailableError) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return
        raise LeftPendingError("stopped while waiting") from error
