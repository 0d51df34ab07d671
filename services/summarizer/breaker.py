"""A circuit breaker: after a run of failures it spares everybody the wait for the next one."""

import contextlib
import time
from collections.abc import Callable, Generator
from datetime import timedelta

import structlog

from services.summarizer.providers import ProviderError
from shared.domain.summary import FailureReason

log = structlog.get_logger(__name__)

_OUTAGES = {FailureReason.PROVIDER_UNAVAILABLE, FailureReason.TIMEOUT}


class Breaker:
    """Opens after `failures` failures in a row; after `pause` one call may try again."""

    def __init__(
        self, *, failures: int, pause: timedelta, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = failures
        self._pause = pause.total_seconds()
        self._clock = clock
        self._run = 0
        self._answers = 0
        self._opened_at: float | None = None
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Tell whether calls are turned away."""
        return self._opened_at is not None

    @contextlib.contextmanager
    def watch(self) -> Generator[None]:
        """Run one call; raises `ProviderError` with reason `circuit-open` instead of trying it."""
        probing, answers = self._admit(), self._answers
        try:
            yield
        except ProviderError as error:
            if error.reason in _OUTAGES:
                self._failed(error.reason, since=answers)
            elif error.reason is not FailureReason.RATE_LIMITED:
                self._answered()
            raise
        else:
            self._answered()
        finally:
            if probing:
                self._probing = False

    def _admit(self) -> bool:
        """Let a call through, or not; True for the one that finds out how things are."""
        if self._opened_at is None:
            return False
        left = self._opened_at + self._pause - self._clock()
        if left > 0 or self._probing:
            raise ProviderError(
                "the circuit is open",
                reason=FailureReason.CIRCUIT_OPEN,
                detail="The language model is not available at the moment.",
                retry_after=timedelta(seconds=max(left, 1)),
            )
        self._probing = True
        return True

    def _failed(self, reason: FailureReason, *, since: int) -> None:
        if reason is FailureReason.TIMEOUT and since < self._answers:
            # Calls that began together time out together, which is a run of them. Where others
            # were answered meanwhile it is no outage.
            return
        self._run += 1
        if self._run >= self._most:
            if self._opened_at is None:
                log.warning("breaker.opened", failures=self._run)
            self._opened_at = self._clock()

    def _answered(self) -> None:
        if self._opened_at is not None:
            log.info("breaker.closed")
        self._answers += 1
        self._run = 0
        self._opened_at = None
