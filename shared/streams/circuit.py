"""Noticing that nearly everything fails: then the fault is ours, not the events'."""

from collections import OrderedDict

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
