"""Importing leads window by window: the end of each row, and the sum of them."""

import asyncio
import contextlib
import itertools
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeAlias, cast
from uuid import UUID

import orjson
import structlog

from services.syncer.storage.imports import ImportRepository
from shared.batcher import Slices
from shared.domain.errors import UnavailableError, UnfinishedError
from shared.domain.lead import LeadSource, in_turns
from shared.domain.lead_file import ImportMode, ImportReport
from shared.events.catalog import LEADS, SYNCER
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
from shared.events.outcome import Outcome, OutcomeStatus
from shared.lead_files import Row
from shared.observability import tracing
from shared.observability.logging import describe_error
from shared.observability.metrics import counter
from shared.storage.inbox import EventStore
from shared.storage.lead_document import LeadRepository
from shared.storage.partitions import unfenced
from shared.streams.codec import Entry
from shared.streams.consuming.settlement import Delivery, note_applied
from shared.streams.consuming.subscription import Handler
from shared.streams.imports import ImportJobs

log = structlog.get_logger(__name__)

# Rows under way at a time.
WINDOW = 500
# The most in one transaction, and how many of these go side by side: while PostgreSQL works for
# one, this process works for the other.
BATCH, LANES = 200, 2
# While events of clients come in too these wait for so many at least, or for so long.
SHARED_BATCH, SHARED = 25, timedelta(milliseconds=15)
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
    async with contextlib.aclosing(_windows(rows)) as windows:
        async for window in windows:
            step = await _written(window, write, report)
            report = step.report
            yield step


async def _written(window: Sequence[Row], write: WriteRows, report: ImportReport) -> Step:
    good = [row for row in window if row.lead is not None]
    ends = iter(await write(good) if good else ())
    problems: list[RowProblem] = []
    counts: Counter[str] = Counter()
    for row in window:
        end = None if row.lead is None else next(ends)
        if row.lead is not None and end is None:
            raise UnfinishedError("Rows wait in the stream to be written")
        counts["invalid" if end is None else _KINDS.get(end.status, "refused")] += 1
        problem = _problem(row, end)
        if problem is not None:
            problems.append(problem)
    for kind, count in counts.items():
        _ROWS.labels(kind).inc(count)
    so_far = {kind: getattr(report, kind) + count for kind, count in counts.items()}
    report = replace(report, rows=report.rows + len(window), **so_far)
    passed_over = frozenset[str]().union(*(row.passed_over for row in window))
    return Step(window[-1].number, report, problems, passed_over)


async def _windows(rows: Iterator[Row]) -> AsyncGenerator[Sequence[Row]]:
    """Yield the rows in windows. The next one is read and checked while the last is written."""

    def read() -> asyncio.Future[list[Row]]:
        reading = asyncio.to_thread(lambda: list(itertools.islice(rows, WINDOW)))
        return asyncio.ensure_future(reading)

    reading = read()
    try:
        while window := await reading:
            reading = read()
            yield window
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


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
    """Writes rows as events about leads, in large batches.

    A row's event has the same id however often the row is read, so it has one effect and one
    outcome. It is applied at once by the handler of its type, one of `handlers`. Where an event
    with its key waits in the stream it has to come after that one, and goes there; so does what
    cannot be applied, to be tried again, held back or parked like any other event.
    """

    def __init__(
        self,
        jobs: ImportJobs,
        imports: ImportRepository,
        events: EventStore,
        leads: LeadRepository,
        of: Import,
        *,
        handlers: Mapping[str, Handler],
        timeout: timedelta,
    ) -> None:
        self._jobs = jobs
        self._imports = imports
        self._events = events
        self._leads = leads
        self._of = of
        self._handlers = handlers
        self._seconds = timeout.total_seconds()
        self._shared = Slices(least=SHARED_BATCH, most=BATCH)
        self._newest: str | None = None

    async def write(self, rows: Sequence[Row]) -> list[RowEnd | None]:
        """Write good rows, and return their ends; None for those not applied in time."""
        numbers = {row_event_id(self._of.id, row.number): row for row in rows}
        # An import that goes on after a death has written some before.
        ends = await self._ends(list(numbers))
        # Of rows with one e-mail address the first wins, in whichever partitions they are.
        turns = in_turns((id_, cast("LeadFields", row.lead).email) for id_, row in numbers.items())
        for number, turn in enumerate(turns):
            events = await self._made({event_id: numbers[event_id] for event_id in turn})
            window = f"{rows[-1].number}.{number}"
            ends |= await self._write_turn(events, ends, window=window)
            if not ends.keys() >= set(turn):
                break
        return [ends.get(event_id) for event_id in numbers]

    async def _write_turn(
        self, events: Sequence[Event], known: Mapping[UUID, RowEnd], *, window: str
    ) -> dict[UUID, RowEnd]:
        """Return the ends of events, none of which is to be before another one's."""
        # One that is applied may not be followed up yet. One that is parked is an operator's.
        parked = {id_ for id_, end in known.items() if end.status is OutcomeStatus.DEAD}
        outcomes = await self._apply([event for event in events if event.id not in parked])
        ends = {
            event_id: _row_end(outcome)
            for event_id, outcome in outcomes.items()
            if outcome.answered and not outcome.repeated
        }
        left = [one for one in events if one.id not in outcomes and one.id not in known]
        if left:
            await self._jobs.offer(self._of.id, window=window, events=left)
        waiting = [one.id for one in events if one.id not in ends and one.id not in known]
        return ends | await self._wait(waiting)

    async def _apply(self, events: Sequence[Event]) -> dict[UUID, Outcome]:
        """Apply what nothing in the stream is before; returns the outcomes by event id."""
        if not self._handlers:
            return {}
        known = await self._jobs.waiting()
        if known is None:
            return {}
        waiting, accepted = known
        behind = {*waiting, *await self._imports.held_keys(LEADS)}
        # Others' events came since the last look, or wait.
        is_shared = bool(waiting) or accepted != (self._newest or accepted)
        self._newest = accepted
        outcomes: dict[UUID, Outcome] = {}
        for round_ in _rounds(events):
            free = [replace(one, accepted=accepted) for one in round_ if one.key not in behind]
            applied = await (self._apply_shared(free) if is_shared else self._apply_alone(free))
            behind.update(event.key for event in free if event.id not in applied)
            outcomes |= applied
        return outcomes

    async def _apply_shared(self, events: Sequence[Event]) -> dict[UUID, Outcome]:
        """Apply events in slices, between which others get as much of this process."""
        outcomes: dict[UUID, Outcome] = {}
        rest = list(events)
        while batch := rest[: self._shared.size(aim=SHARED)]:
            del rest[: len(batch)]
            begun = time.monotonic()
            with self._shared.timed(len(batch)):
                outcomes |= await self._try(batch)
            await asyncio.sleep(time.monotonic() - begun)
        return outcomes

    async def _apply_alone(self, events: Sequence[Event]) -> dict[UUID, Outcome]:
        batches = [events[start : start + BATCH] for start in range(0, len(events), BATCH)]
        outcomes: dict[UUID, Outcome] = {}
        for start in range(0, len(batches), LANES):
            lanes = [self._try(batch) for batch in batches[start : start + LANES]]
            # Each to its end, whatever becomes of the others: the next window begins after them.
            for ended in await asyncio.gather(*lanes, return_exceptions=True):
                if isinstance(ended, BaseException):
                    raise ended
                outcomes |= ended
        return outcomes

    async def _try(self, events: Sequence[Event]) -> dict[UUID, Outcome]:
        """Apply events of one type and of different keys; no outcomes where that fails."""
        try:
            return await self._apply_batch(events)
        except UnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 (the stream's runtime decides what follows)
            log.warning("rows.published", rows=len(events), error=describe_error(error))
            return {}

    async def _apply_batch(self, events: Sequence[Event]) -> dict[UUID, Outcome]:
        tracer, entry_id = tracing.tracer, f"{time.time_ns() // 1_000_000}-0"
        with contextlib.ExitStack() as traces:
            if tracer is not None:
                events = traces.enter_context(tracer.sending_many(events))
            place = f"import:{self._of.id}"
            run = [Delivery(place, _entry(entry_id, event), event) for event in events]
            log.info("event.accepted", each=[{**one.ids, "partition": one.stream} for one in run])
            if tracer is not None:
                traces.enter_context(tracer.processing(run, group=SYNCER))
            with unfenced():
                outcomes = await self._handlers[events[0].type](events)
            note_applied(run, outcomes, stream=LEADS, group=SYNCER, since=time.time_ns())
        return {event.id: outcome for event, outcome in zip(events, outcomes, strict=True)}

    async def _wait(self, event_ids: Sequence[UUID]) -> dict[UUID, RowEnd]:
        if not event_ids:
            return {}
        ends = await self._ends(event_ids)
        give_up = time.monotonic() + self._seconds
        missing = [event_id for event_id in event_ids if event_id not in ends]
        while missing and time.monotonic() < give_up:
            await asyncio.sleep(POLL.total_seconds())
            # The last one is nearly always the last: until then it alone is looked for.
            if await self._ends(missing[-1:]):
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


def _entry(entry_id: str, event: Event) -> Entry:
    return Entry(entry_id, {b"id": str(event.id).encode()})


def _rounds(events: Sequence[Event]) -> Iterator[Sequence[Event]]:
    """Yield what can be applied together: of each key one event at a time, and of one type."""
    seen: Counter[str] = Counter()
    rounds: defaultdict[tuple[int, str], list[Event]] = defaultdict(list)
    for event in events:
        rounds[seen[event.key], event.type].append(event)
        seen[event.key] += 1
    for place in sorted(rounds):
        yield rounds[place]


def _row_end(outcome: Outcome) -> RowEnd:
    is_refused = outcome.status in {OutcomeStatus.DUPLICATE, OutcomeStatus.ERASED}
    return RowEnd(outcome.status, orjson.loads(outcome.body) if is_refused else {})
