"""Whether a consumer moves: the measure of its health."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from shared.background import Backoff
from shared.domain.errors import UnavailableError

# Noticing that nearly everything fails: then the fault is ours, not the events'.

WINDOW = 50
FEWEST = 20
NEARLY_ALL = 0.9


class Circuit:
    """Open while nearly all of the last events failed, whatever their number of attempts.

    A bad deployment must not drain a whole stream into the dead letters. Each event counts
    once, so that a few bad ones in a quiet hour do not look like a bad deployment. The next
    success closes the circuit.
    """

    def __init__(self) -> None:
        self._failed: OrderedDict[str, bool] = OrderedDict()
        self._is_open = False

    @property
    def is_open(self) -> bool:
        """Whether reading should wait."""
        return self._is_open

    def succeeded(self, event_id: str) -> None:
        """Note that an event was handled."""
        if self._is_open:
            self._failed.clear()
            self._is_open = False
        self._note(event_id, failed=False)

    def failed(self, event_id: str) -> None:
        """Note that an event could not be handled."""
        self._note(event_id, failed=True)
        count = len(self._failed)
        self._is_open = count >= FEWEST and sum(self._failed.values()) >= NEARLY_ALL * count

    def _note(self, event_id: str, *, failed: bool) -> None:
        self._failed[event_id] = failed
        self._failed.move_to_end(event_id)
        if len(self._failed) > WINDOW:
            self._failed.popitem(last=False)


# Waiting out an outage: it is nobody's fault and uses up nobody's attempts.

Result = TypeVar("Result")


class LeftPendingError(Exception):
    """Stopped while waiting: the entry stays pending and is handed back."""


class Progress:
    """A consumer is well while it has lately read, finished something or found nothing to do."""

    def __init__(self) -> None:
        self._moved_at = time.monotonic()
        self._held: dict[str, str] = {}

    def touch(self) -> None:
        """Note that the consumer moved."""
        self._moved_at = time.monotonic()

    def hold(self, activity: str, reason: str) -> None:
        """Note that an activity (`reading`, `handling`) waits, and for what."""
        self._held[activity] = reason

    def release(self, activity: str) -> None:
        """Note that an activity goes on."""
        self._held.pop(activity, None)
        self.touch()

    def trouble(self, *, patience: timedelta) -> str | None:
        """Return what is wrong, or None when the consumer moved within `patience`."""
        if self._held:
            return "; ".join(self._held.values())
        still = time.monotonic() - self._moved_at
        if still > patience.total_seconds():
            return f"no progress for {still:.0f} s"
        return None


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
