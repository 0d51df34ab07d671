"""Which events an operator means."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

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
        """Tell whether an entry's event is one of these; what is no event never is."""
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
