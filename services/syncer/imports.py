"""Importing leads window by window: the end of each row, and the sum of them."""

import asyncio
import contextlib
import itertools
import time
from collections import Counter, deque
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeAlias
from uuid import UUID

import orjson

from shared.background import end
from shared.domain.errors import UnfinishedError
from shared.domain.lead import email_key
from shared.domain.lead_file import ImportReport
from shared.events.outcome import OutcomeStatus
from shared.lead_files import Row
from shared.observability.metrics import counter

# Rows that are written together, and how many such windows go side by side: while PostgreSQL works
# for some of them, this process works for another.
WINDOW, LANES = 200, 3


@dataclass(frozen=True, slots=True)
class RowEnd:
    """The end of a good row; `detail` is that of the event's outcome."""

    status: OutcomeStatus
    detail: Mapping[str, Any] = field(default_factory=dict[str, Any])


WriteRows: TypeAlias = Callable[[Sequence[Row]], Awaitable[Sequence[RowEnd | None]]]
"""Writes good rows, and returns the end of each in their order: None when there is none yet."""
FindHolders: TypeAlias = Callable[[Sequence[Row]], Awaitable[Collection[UUID]]]
"""Returns ids and externalIds of the leads that have the rows' addresses and may lose them."""


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


async def no_holders(_rows: Sequence[Row]) -> Collection[UUID]:
    """Find nobody: where no row takes an address from a lead."""
    return ()


async def import_rows(
    rows: Iterator[Row],
    write: WriteRows,
    *,
    report: ImportReport,
    until: float,
    holders: FindHolders = no_holders,
) -> AsyncGenerator[Step]:
    """Write all rows, and yield each step; `report` is of the rows before these.

    Windows are written side by side, and end in their order. One that has a key of another begins
    after that one's end. Raises `UnfinishedError` when there is more to write after `until`, by the
    monotonic clock, or rows were not applied in time: the stream is not there to be filled.
    """
    async with contextlib.aclosing(_windows(rows)) as windows, _Lanes.open(report) as lanes:
        has_begun = False
        async for window in windows:
            is_last = not window.rows or (has_begun and time.monotonic() > until)
            while lanes.windows if is_last else lanes.is_to_wait(window):
                yield await lanes.end_first()
            if not is_last:
                # Not earlier: what is under way may be about the leads that have its keys.
                window.keys.update(await holders(window.good))
                while lanes.is_to_wait(window):
                    yield await lanes.end_first()
                lanes.begin(window, write)
                has_begun = True
            elif window.rows:
                raise UnfinishedError("More rows are to be written")


class _Lanes:
    """Windows that are written side by side, the first begun first."""

    def __init__(self, report: ImportReport) -> None:
        self.windows = deque[tuple[_Window, asyncio.Task[Sequence[RowEnd | None]]]]()
        self._report = report

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, report: ImportReport) -> AsyncGenerator[Self]:
        """See to their end what goes beside one that failed, and end what nobody waits for."""
        lanes = cls(report)
        try:
            yield lanes
        except Exception:
            await asyncio.gather(*(task for _, task in lanes.windows), return_exceptions=True)
            raise
        finally:
            for _, task in lanes.windows:
                await end(task)

    def is_to_wait(self, window: "_Window") -> bool:
        """Whether another window has to end before this one begins."""
        return len(self.windows) == LANES or any(window.meets(one) for one, _ in self.windows)

    def begin(self, window: "_Window", write: WriteRows) -> None:
        """Begin to write a window."""
        self.windows.append((window, asyncio.create_task(_write(window.good, write), name="rows")))

    async def end_first(self) -> Step:
        """Wait for the window that began first."""
        window, ends = self.windows.popleft()
        step = _step(window.rows, await ends, self._report)
        self._report = step.report
        return step


async def _write(good: Sequence[Row], write: WriteRows) -> Sequence[RowEnd | None]:
    return await write(good) if good else ()


@dataclass(slots=True)
class _Window:
    """Rows that are written together, the good ones, and what others may share with these."""

    rows: Sequence[Row]
    good: Sequence[Row]
    keys: set[object]
    # A lead can be named by its id in one row and by its externalId in another.
    names: frozenset[bool]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Self:
        good, keys, names = list[Row](), set[object](), set[bool]()
        for row in rows:
            if row.lead is not None:
                good.append(row)
                keys |= {email_key(row.lead.email), row.lead.external_id, row.lead_id}
                names.add(row.lead_id is None)
        return cls(rows, good, keys - {None}, frozenset(names))

    def meets(self, other: Self) -> bool:
        """Whether rows of both may be about one lead, or one address that changes hands."""
        return len(self.names | other.names) > 1 or not self.keys.isdisjoint(other.keys)


def _step(window: Sequence[Row], ends: Sequence[RowEnd | None], report: ImportReport) -> Step:
    rest = iter(ends)
    problems: list[RowProblem] = []
    counts: Counter[str] = Counter()
    for row in window:
        end = None if row.lead is None else next(rest)
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


async def _windows(rows: Iterator[Row]) -> AsyncGenerator[_Window]:
    """Yield the rows in windows, and an empty one. The next is read while others are written."""

    def read() -> asyncio.Future[_Window]:
        reading = asyncio.to_thread(lambda: _Window.of(list(itertools.islice(rows, WINDOW))))
        return asyncio.ensure_future(reading)

    reading = read()
    try:
        while (window := await reading).rows:
            reading = read()
            yield window
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
