"""A point in time by which something has to be done."""

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Self


@dataclass(frozen=True, slots=True)
class Deadline:
    """Measured by the monotonic clock: setting the wall clock does not move it."""

    _at: float

    @classmethod
    def after(cls, span: timedelta) -> Self:
        """Return the deadline that lies `span` ahead."""
        return cls(time.monotonic() + span.total_seconds())

    @property
    def remaining(self) -> timedelta:
        """Return the time left, never less than zero."""
        return timedelta(seconds=max(0.0, self._at - time.monotonic()))
