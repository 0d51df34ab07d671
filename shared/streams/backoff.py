"""Waiting longer after each failure, with jitter so that processes do not march in step."""

import random
from datetime import timedelta


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
