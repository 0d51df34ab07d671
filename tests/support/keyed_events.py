"""Events of keys whose partition is known, and a handler that fails with one of them."""

import itertools
from collections.abc import Iterable, Sequence
from uuid import UUID

from shared.events.envelope import Event
from shared.events.outcome import Outcome
from tests.conftest import LEADS_DIVISION
from tests.support.builders import lead_created, lead_updated
from tests.support.workers import DONE


def keys_in(partition: int, *, count: int) -> list[str]:
    """Return that many keys whose events are in this partition."""
    layout = LEADS_DIVISION.last
    names = (f"key-{number}" for number in itertools.count())
    there = (name for name in names if layout.partition_of(name) == partition)
    return list(itertools.islice(there, count))


def events_of(key: str, count: int) -> list[Event]:
    """Return that many events of one key, of two types in turn."""
    created = lead_created(partition_key=key)
    made = (
        lead_updated(created.subject, partition_key=key, city="Paris")
        if number % 2
        else lead_created(partition_key=key)
        for number in range(1, count)
    )
    return [created, *made]


def ids(events: Iterable[Event], *, key: str | None = None) -> list[UUID]:
    """Return the ids of events, or of those of one key."""
    return [event.id for event in events if key in {None, event.key}]


class DeathError(BaseException):
    """The process ends here."""


class Fails:
    """A handler that fails with these errors in turn whenever an event is among its events.

    The last error comes again and again, or with `times` that often.
    """

    def __init__(self, event: Event, *errors: BaseException, times: int | None = None) -> None:
        self.applied: list[Event] = []
        self.attempts: list[int] = []
        self.company: list[int] = []
        self._id = event.id
        self._errors = errors
        self._times = times

    async def __call__(self, events: Sequence[Event]) -> list[Outcome]:
        """Apply events, or fail."""
        for event in events:
            if event.id == self._id:
                self._fail(event, len(events) - 1)
        self.applied.extend(events)
        return [DONE for _ in events]

    def _fail(self, event: Event, company: int) -> None:
        failures = len(self.company)
        if company == 0 or isinstance(self._errors[0], DeathError):
            self.attempts.append(event.attempt)
            self.company.append(company)
            if self._times is not None and failures >= self._times:
                return
        raise self._errors[min(failures, len(self._errors) - 1)]
