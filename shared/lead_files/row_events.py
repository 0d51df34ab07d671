"""The rows of a file as events: published, and waited for."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, cast
from uuid import UUID

from shared.domain.lead import LeadSource
from shared.domain.lead_file import ImportMode
from shared.events.data import EventData
from shared.events.envelope import Event
from shared.events.lead_events import LeadCreated, LeadUpserted
from shared.events.lead_fields import GivenLead, LeadFields
from shared.lead_files.importing import RowEnd
from shared.lead_files.reading import Row
from shared.storage.inbox import EventStore

POLL = timedelta(milliseconds=20)

_ROW_BITS = 32
_ROW_MASK = (1 << _ROW_BITS) - 1


class Offers(Protocol):
    """Where the events of a window go."""

    async def offer(self, import_id: UUID, *, last_row: int, events: Sequence[Event]) -> None:
        """Publish events, unless those up to this row have just been; raises `UnavailableError`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """Whose import it is, and what its events say of that. `source` is the publishing service."""

    id: UUID
    mode: ImportMode
    created_by: str
    source: str
    correlation_id: str


class RowEvents:
    """Writes rows through the stream of leads.

    A row's event has the same id however often the row is read, so it has one effect and one
    outcome. Raises `UnavailableError` when Redis or PostgreSQL is down, or the stream is full.
    """

    def __init__(
        self, offers: Offers, events: EventStore, of: Import, *, patience: timedelta
    ) -> None:
        self._offers = offers
        self._events = events
        self._of = of
        self._seconds = patience.total_seconds()

    async def write(self, rows: Sequence[Row]) -> list[RowEnd | None]:
        """Publish good rows, and return their ends; None for those not applied in time."""
        numbers = {row_event_id(self._of.id, row.number): row for row in rows}
        # An import that goes on after a death has published some before.
        ends = await self._ends(list(numbers))
        missing = [event_id for event_id in numbers if event_id not in ends]
        if missing:
            events = [self._event(event_id, numbers[event_id]) for event_id in missing]
            await self._offers.offer(self._of.id, last_row=rows[-1].number, events=events)
            ends |= await self._wait(missing)
        return [ends.get(event_id) for event_id in numbers]

    async def _wait(self, event_ids: Sequence[UUID]) -> dict[UUID, RowEnd]:
        give_up = time.monotonic() + self._seconds
        ends: dict[UUID, RowEnd] = {}
        missing = list(event_ids)
        while missing and time.monotonic() < give_up:
            await asyncio.sleep(POLL.total_seconds())
            ends |= await self._ends(missing)
            missing = [event_id for event_id in missing if event_id not in ends]
        return ends

    async def _ends(self, event_ids: Sequence[UUID]) -> dict[UUID, RowEnd]:
        found = await self._events.ends(event_ids)
        return {event_id: RowEnd(*end) for event_id, end in found.items()}

    def _event(self, event_id: UUID, row: Row) -> Event:
        lead_id = row_lead_id(event_id)
        return Event(
            id=event_id,
            source=self._of.source,
            subject=str(lead_id),
            correlation_id=self._of.correlation_id,
            data=self._data(lead_id, cast("LeadFields", row.lead)),
        )

    def _data(self, lead_id: UUID, lead: LeadFields) -> EventData:
        source, created_by = LeadSource.IMPORT, self._of.created_by
        if self._of.mode is ImportMode.CREATE:
            return LeadCreated(lead_id=lead_id, source=source, created_by=created_by, lead=lead)
        return LeadUpserted(
            lead_id=lead_id,
            source=source,
            created_by=created_by,
            external_id=cast("UUID", lead.external_id),  # such rows have one
            lead=cast("GivenLead", lead),
        )


def row_event_id(import_id: UUID, row: int) -> UUID:
    """Return the id of a row's event: its import's, ending in the row's number.

    An import's own is that of row 0, so that no row has it too.
    """
    return UUID(int=import_id.int & ~_ROW_MASK | row)


def row_lead_id(event_id: UUID) -> UUID:
    """Return the id of the lead that a row makes: as its event's but for the bit before the row."""
    return UUID(int=event_id.int ^ (1 << _ROW_BITS))
