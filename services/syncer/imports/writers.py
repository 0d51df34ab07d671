"""The two ways to write the rows of a file: as events in the stream of leads, or not at all."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import cast
from uuid import UUID

from services.syncer.imports.rows import RowEnd
from services.syncer.storage.imports import ImportRepository
from shared.domain.lead import LeadSource
from shared.domain.lead_file import ImportMode
from shared.events.envelope import Event, EventData
from shared.events.import_events import row_event_id, row_lead_id
from shared.events.lead_events import LeadCreated, LeadUpserted
from shared.events.lead_fields import GivenLead, LeadFields
from shared.events.outcome import OutcomeStatus
from shared.lead_files.reading import Row
from shared.storage.inbox import EventStore
from shared.streams.imports import ImportJobs

POLL = timedelta(milliseconds=20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """An import, as far as its events say something of it."""

    id: UUID
    mode: ImportMode
    created_by: str
    correlation_id: str


class RowEvents:
    """Writes rows through the stream of leads.

    A row's event has the same id however often the row is read, so it has one effect and one
    outcome.
    """

    def __init__(
        self, jobs: ImportJobs, events: EventStore, of: Import, *, patience: timedelta
    ) -> None:
        self._jobs = jobs
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
            await self._jobs.offer(self._of.id, last_row=rows[-1].number, events=events)
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
            source="syncer",
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


class DryRun:
    """Writes nothing. Rows are held against stored leads, and not against each other."""

    def __init__(self, imports: ImportRepository, mode: ImportMode) -> None:
        self._imports = imports
        self._mode = mode

    async def write(self, rows: Sequence[Row]) -> list[RowEnd]:
        """Return the end that each row would have."""
        leads = [(UUID(int=row.number), cast("LeadFields", row.lead)) for row in rows]
        conflicts = await self._imports.find_conflicts(leads)
        return [self._end(conflicts.get(key)) for key, _ in leads]

    def _end(self, conflict: dict[str, str] | None) -> RowEnd:
        if conflict is None:
            return RowEnd(OutcomeStatus.CREATED)
        if self._mode is ImportMode.UPSERT and conflict["field"] == "externalId":
            return RowEnd(OutcomeStatus.UPDATED)
        return RowEnd(OutcomeStatus.DUPLICATE, conflict)
