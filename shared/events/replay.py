"""What a replay is: an order that is kept, and a source that gives the events page by page."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

from shared.events.envelope import new_id, now

# Which events an operator means.

EventFields = Mapping[bytes, bytes]
"""An event's CloudEvents attributes and data, named and encoded as in its stream entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The events that meet every condition given; none given means all.

    Times are the events' own, `until` is exclusive. Events about a lead have its id as
    their subject.
    """

    types: tuple[str, ...] = ()
    lead_ids: tuple[str, ...] = ()
    correlation_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def matches(self, fields: EventFields) -> bool:
        """Return whether an entry's event is one of these; what is no event never is."""
        try:
            time = datetime.fromisoformat(fields[b"time"].decode()).astimezone(UTC)
        except (KeyError, ValueError):
            return False
        return (
            _among(fields.get(b"type"), self.types)
            and _among(fields.get(b"subject"), self.lead_ids)
            and (self.since is None or time >= self.since)
            and (self.until is None or time < self.until)
            and self.correlation_id in {None, fields.get(b"correlationid", b"").decode()}
        )


def _among(value: bytes | None, wanted: tuple[str, ...]) -> bool:
    return not wanted or (value is not None and value.decode(errors="replace") in wanted)


# The most events in one page: it is added in one transaction, which others wait for.
PAGE = 200


class ReplayOrigin(StrEnum):
    """Where the events of a replay are read."""

    STREAM = "stream"
    ARCHIVE = "archive"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOrder:
    """A replay to one consumer group of a stream, as it was asked for.

    `first` and `last` bound the stream's entry ids, `last_position` the archive's positions, all
    inclusive. `last` and `last_position` are set when the replay begins, so that it never meets
    what it has put back itself.
    `rate` is in events per second.
    """

    id: str = field(default_factory=lambda: str(new_id()))
    origin: ReplayOrigin
    stream: str
    group: str
    selection: Selection = field(default_factory=Selection)
    first: str | None = None
    last: str | None = None
    last_position: int | None = None
    rate: int | None = None
    with_model: bool = False
    requested_by: str = ""
    ordered_at: datetime = field(default_factory=now)

    @property
    def page_size(self) -> int:
        """How many events to read at once: no more than a second's worth."""
        return PAGE if self.rate is None else min(PAGE, self.rate)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPage:
    """Some events to put back, after looking at `examined`; reading goes on after `position`.

    Of the replay's events in this page those at the places `there`, counted from 0, have their
    effect and need not be put back; `events` are all others.
    """

    events: Sequence[EventFields]
    position: str
    examined: int
    there: frozenset[int] = frozenset()

    @property
    def size(self) -> int:
        """How many of the replay's events it is about."""
        return len(self.events) + len(self.there)


class ReplaySource(Protocol):
    """Where replayed events come from, in the order in which they were first applied."""

    async def counts(self) -> Mapping[str, int]:
        """Return how many events there are to replay, by type."""
        ...

    async def size(self) -> int:
        """Return how many events will be examined: what progress is measured against."""
        ...

    def pages(self, *, after: str | None) -> AsyncGenerator[ReplayPage]:
        """Yield the pages after a position, or all of them."""
        ...
