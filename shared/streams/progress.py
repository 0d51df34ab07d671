"""Whether a consumer moves: the measure of its health."""

import time
from datetime import timedelta


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
