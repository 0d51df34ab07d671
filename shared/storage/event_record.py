"""An event as the event table keeps it: inbox, idempotency record and archive."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Self
from uuid import UUID

from shared.events.envelope import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """The columns of `leads.event` that come from the event itself; `data` is its JSON."""

    id: UUID
    type: str
    source: str
    subject: str
    dataschema: str
    data: str
    time: datetime
    correlation_id: str
    payload_hash: bytes

    @classmethod
    def of(cls, event: Event, *, subject: UUID | None = None) -> Self:
        """Return the record of an event, about the lead `subject` whatever its sender says."""
        return cls(
            id=event.id,
            type=event.type,
            source=event.source,
            subject=event.subject if subject is None else str(subject),
            dataschema=event.data.schema_uri(),
            data=event.data.model_dump_json(),
            time=event.time,
            correlation_id=event.correlation_id,
            payload_hash=payload_hash(event),
        )


def payload_hash(event: Event) -> bytes:
    """Return SHA-256 of what the event asks for: equal for a repeat, other for another wish."""
    return hashlib.sha256(f"{event.type}\n{event.data.intent()}".encode()).digest()
