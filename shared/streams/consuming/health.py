"""Whether a consumer moves, whether nearly everything fails, and waiting out an outage."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from redis.asyncio import Redis

from shared.background import Backoff
from shared.domain.errors import UnavailableError
from shared.observability.logging import describe_error
from shared.observability.metrics import gauge
from shared.observability.outages import Outages
from shared.streams.consuming.housekeeping import Housekeeping
from shared.streams.troubles import Troubles

Result = TypeVar("Result")


_LOOP_AGE = gauge(
    "leads_loop_age_seconds",
    "Since the consumer of this stream has last read, finished something or found nothing to do.",
    ["stream"],
)
_CIRCUIT = gauge(
    "leads_circuit_open",
    "1 while reading waits since nearly every event fails.",
    ["stream", "group"],
)


class Progress:
    """A consumer is well while it has lately read, finished something or found nothing to do."""

    def __init__(self, stream: str, outages: Outages) -> None:
        self._stream = stream
        self._outages = outages
        self._moved_at = time.monotonic()
        self._held: dict[str, Exception] = {}
        _LOOP_AGE.labels(stream).set_function(lambda: time.monotonic() - self._moved_at)

    def hold(self, activity: str, error: Exception) -> None:
        """Note that an activity (`reading`, `handling`) waits, and for what."""
        self._held[activity] = error
        self._outages.failed(f"{activity} {self._stream}", error)

    def release(self, activity: str) -> None:
        """Note that an activity goes on."""
        self._moved_at = time.monotonic()
        if self._held.pop(activity, None) is not None:
            self._outages.worked(f"{activity} {self._stream}")

    @property
    def waits_for_redis(self) -> bool:
        """Whether that is all that it waits for."""
        whats = {getattr(error, "dependency", None) for error in self._held.values()}
        return whats == {"redis"}

    def trouble(self, *, timeout: timedelta) -> str | None:
        """Return what is wrong, or None when the consumer moved within `timeout`."""
        if self._held:
            return "; ".join(map(describe_error, self._held.values()))
        still = time.monotonic() - self._moved_at
        if still > timeout.total_seconds():
            return f"no progress for {still:.0f} s"
        return None


class WorkerHealth:
    """What a worker has to say of itself: to its health address, and to operators by Redis.

    It may take `timeout` to move: a handler up to its deadline, in every place at once.
    """

    def __init__(
        self,
        redis: Redis,
        housekeeping: Housekeeping,
        *,
        stream: str,
        consumer: str,
        timeout: timedelta,
    ) -> None:
        self._troubles = Troubles(redis)
        self.progress = Progress(stream, housekeeping.outages)
        self._housekeeping = housekeeping
        self._stream = stream
        self._consumer = consumer
        self._timeout = timeout

    async def check(self) -> None:
        """Raise `UnavailableError` when the consumer does not move."""
        trouble = self.progress.trouble(timeout=self._timeout)
        if trouble is not None:
            raise UnavailableError(trouble)

    async def tell_troubles(self) -> None:
        """Tell whoever asks Redis what is wrong here, if anything is. Raises `UnavailableError`."""
        trouble = self.progress.trouble(timeout=self._timeout)
        # Who can read it knows of Redis already.
        waits = [] if trouble is None or self.progress.waits_for_redis else [trouble]
        await self._troubles.tell(
            self._consumer, self._stream, waits, tuple(self._housekeeping.troubles)
        )

    async def fall_silent(self) -> None:
        """Take back what was told: the worker ends. Raises `UnavailableError`."""
        await self._troubles.tell(self._consumer, self._stream, ())


class FailingError(UnavailableError):
    """Nearly every event fails."""

    def __init__(self) -> None:
        super().__init__("nearly every event fails: a bad release, or a broken dependency")


class LeftPendingError(Exception):
    """Stopped while waiting: the entry stays pending and is handed back."""


class OutageWait:
    """Calls again and again while a dependency is down, until the process stops.

    An outage is not the event's fault and uses up none of its attempts.
    """

    def __init__(self, progress: Progress, stop: asyncio.Event) -> None:
        self._progress = progress
        self._stop = stop

    async def call(self, function: Callable[[], Awaitable[Result]]) -> Result:
        """Return what `function` returns once it no longer raises `UnavailableError`.

        Raises `LeftPendingError` when the process stops first.
        """
        outage: UnavailableError | None = None
        async for _ in Backoff(stop=self._stop):
            try:
                result = await function()
            except UnavailableError as error:
                outage = error
                self._progress.hold("handling", error)
            else:
                self._progress.release("handling")
                return result
        raise LeftPendingError("stopped while waiting") from outage


# The circuit opens when of the last WINDOW events, and at least FEWEST, nearly all failed.
WINDOW = 50
FEWEST = 20
NEARLY_ALL = 0.9


class ConsumerCircuit:
    """Open while nearly all of the last events failed, whatever their number of attempts.

    Then the fault is ours, not the events': a bad deployment must not drain a whole stream
    into the dead letters. Each event counts once, so that a few bad ones in a quiet hour do
    not look like a bad deployment. The next success closes the circuit.
    """

    def __init__(self, *, stream: str, group: str) -> None:
        self._failed: OrderedDict[str, bool] = OrderedDict()
        self._is_open = False
        _CIRCUIT.labels(stream, group).set_function(lambda: float(self._is_open))

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
