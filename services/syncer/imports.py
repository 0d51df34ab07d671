"""Importing leads window by window: the end of each row, and the sum of them."""

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeAlias, cast
from uuid import UUID

import orjson

from services.syncer.storage.imports import ImportRepository
from shared.domain.errors import UnfinishedError
from shared.domain.lead import LeadSource, in_turns
from shared.domain.lead_file import ImportMode, ImportReport
from shared.events.data import (
    LeadCreated,
    LeadUpdated,
    LeadUpserted,
    row_event_id,
    row_lead_id,
    under_key,
)
from shared.events.envelope import Event, EventData
from shared.events.lead_fields import GivenLead, LeadChanges, LeadFields
from shared.events.outcome import OutcomeStatus
from shared.lead_files import Row
from shared.observability.metrics import counter
from shared.storage.inbox import EventStore
from shared.storage.lead_document import LeadRepository
from shared.streams.imports import ImportJobs

# Rows under way at a time: a new lead waits for so many.
WINDOW = 500
POLL = timedelta(milliseconds=20)


@dataclass(frozen=True, slots=True)
class RowEnd:
    """The end of a good row; `detail` is that of the event's outcome."""

    status: OutcomeStatus
    detail: Mapping[str, Any] = field(default_factory=dict[str, Any])


WriteRows: TypeAlias = Callable[[Sequence[Row]], Awaitable[Sequence[RowEnd | None]]]
"""Writes good rows, and returns the end of each in their order: None when there is none yet."""


@dataclass(frozen=True, slots=True)
class RowProblem:
    """Why a row was not written, without anything that it says of a person."""

    row: int
    errors: Mapping[str, str]
    existing_lead_id: str | None = None

    def line(self) -> bytes:
        """Return the row's line in a file of errors."""
        body: dict[str, Any] = {"row": self.row, "errors": dict(self.errors)}
        if self.existing_lead_id is not None:
            body["existingLeadId"] = self.existing_lead_id
        return orjson.dumps(body) + b"\n"


@dataclass(frozen=True, slots=True)
class Step:
    """A window that was seen to: its last row, the report up to there, and its problems.

    `passed_over` are the columns whose values are for nothing.
    """

    position: int
    report: ImportReport
    problems: Sequence[RowProblem]
    passed_over: frozenset[str]


_KINDS = {
    OutcomeStatus.CREATED: "created",
    OutcomeStatus.UPDATED: "updated",
    OutcomeStatus.DUPLICATE: "duplicate",
}


_ROWS = counter(
    "leads_import_rows_total",
    "Rows of files by what became of each; those of a dry run too.",
    ["result"],
    start=[[kind] for kind in (*_KINDS.values(), "refused", "invalid")],
)


async def import_rows(
    rows: Iterator[Row], write: WriteRows, *, report: ImportReport
) -> AsyncGenerator[Step]:
    """Write all rows, and yield each step; `report` is of the rows before these.

    Raises `UnfinishedError` when rows were not applied in time: the stream is not there to be
    filled.
    """
    # In a thread: other work goes on while rows are read and checked.
    while window := await asyncio.to_thread(_next_window, rows):
        good = [row for row in window if row.lead is not None]
        ends = iter(await write(good) if good else ())
        problems: list[RowProblem] = []
        for row in window:
            end = None if row.lead is None else next(ends)
            if row.lead is not None and end is None:
                raise UnfinishedError("Rows wait in the stream to be written")
            kind = "invalid" if end is None else _KINDS.get(end.status, "refused")
            _ROWS.labels(kind).inc()
            report = replace(report, rows=report.rows + 1, **{kind: getattr(report, kind) + 1})
            problem = _problem(row, end)
            if problem is not None:
                problems.append(problem)
        passed_over = frozenset[str]().union(*(row.passed_over for row in window))
        yield Step(window[-1].number, report, problems, passed_over)


def _next_window(rows: Iterator[Row]) -> list[Row]:
    return list(itertools.islice(rows, WINDOW))


def _problem(row: Row, end: RowEnd | None) -> RowProblem | None:
    if end is None:
        return RowProblem(row.number, row.errors)
    match end.status:
        case OutcomeStatus.CREATED | OutcomeStatus.UPDATED:
            return None
        case OutcomeStatus.DUPLICATE:
            errors = {end.detail["field"]: "Is taken"}
            return RowProblem(row.number, errors, end.detail["leadId"])
        case OutcomeStatus.ERASED:
            errors = {end.detail["field"]: "Belongs to a lead that was deleted"}
            return RowProblem(row.number, errors)
        case OutcomeStatus.NOT_FOUND:
            return RowProblem(row.number, {"id": "There is no lead with this id"})
        case _:
            return RowProblem(row.number, {"row": "Could not be written"})


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
        self,
        jobs: ImportJobs,
        events: EventStore,
        leads: LeadRepository,
        of: Import,
        *,
        timeout: timedelta,
    ) -> None:
        self._jobs = jobs
        self._events = events
        self._leads = leads
        self._of = of
        self._seconds = timeout.total_seconds()

    async def write(self, rows: Sequence[Row]) -> list[RowEnd | None]:
        """Publish good rows, and return their ends; None for those not applied in time."""
        numbers = {row_event_id(self._of.id, row.number): row for row in rows}
        # An import that goes on after a death has published some before.
        ends = await self._ends(list(numbers))
        # Of rows with one e-mail address the first wins, in whichever partitions they are.
        turns = in_turns((id_, cast("LeadFields", row.lead).email) for id_, row in numbers.items())
        for number, turn in enumerate(turns):
            missing = [event_id for event_id in turn if event_id not in ends]
            if missing:
                events = await self._made({event_id: numbers[event_id] for event_id in missing})
                window = f"{rows[-1].number}.{number}"
                await self._jobs.offer(self._of.id, window=window, events=events)
                ends |= await self._wait(missing)
            if not ends.keys() >= set(turn):
                break
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

    async def _made(self, rows: Mapping[UUID, Row]) -> list[Event]:
        """Return the events of rows, by their ids, under the keys of the leads they change."""
        events = [self._event(event_id, row) for event_id, row in rows.items()]
        upserts = [event.data for event in events if isinstance(event.data, LeadUpserted)]
        moved = await self._leads.moved_keys([data.external_id for data in upserts])
        return [under_key(event, moved) for event in events]

    def _event(self, event_id: UUID, row: Row) -> Event:
        lead_id = row.lead_id or row_lead_id(event_id)
        return Event(
            id=event_id,
            source="syncer",
            subject=str(lead_id),
            correlation_id=self._of.correlation_id,
            data=self._data(lead_id, row),
        )

    def _data(self, lead_id: UUID, row: Row) -> EventData:
        source, created_by = LeadSource.IMPORT, self._of.created_by
        lead = cast("LeadFields", row.lead)
        if row.lead_id is not None:
            given = cast("GivenLead", lead).given()
            given.pop("external_id", None)  # the lead may have one that the file does not say
            changes = LeadChanges(**given)
            return LeadUpdated(lead_id=lead_id, changes=changes, updated_by=created_by)
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
        leads = [(UUID(int=row.number), cast("LeadFields", row.lead), row.lead_id) for row in rows]
        conflicts = await self._imports.find_conflicts(leads)
        return [self._end(row, conflicts.get(UUID(int=row.number))) for row in rows]

    def _end(self, row: Row, conflict: dict[str, str] | None) -> RowEnd:
        is_known = conflict is not None and conflict["field"] == "externalId"
        if self._mode is ImportMode.UPSERT and is_known:
            return RowEnd(OutcomeStatus.UPDATED)
        if row.lead_id is not None:
            return RowEnd(OutcomeStatus.NOT_FOUND)
        if conflict is None:
            return RowEnd(OutcomeStatus.CREATED)
        return RowEnd(OutcomeStatus.DUPLICATE, conflict)
