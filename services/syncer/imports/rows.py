"""Importing leads window by window: what becomes of each row, and the sum of it."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import orjson

from shared.events.outcome import OutcomeStatus
from shared.lead_files.reading import Row

# Rows under way at a time: a new lead waits for so many.
WINDOW = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """How many rows of a file had which end so far.

    `duplicate` rows met another lead with their e-mail address or externalId. `refused` ones
    could not be written although they are well-formed. `unknown` ones were not applied in time.
    """

    rows: int = 0
    created: int = 0
    updated: int = 0
    duplicate: int = 0
    invalid: int = 0
    refused: int = 0
    unknown: int = 0

    @property
    def problems(self) -> int:
        """How many rows the error file names."""
        return self.duplicate + self.invalid + self.refused

    def with_another(self, kind: str) -> "ImportReport":
        """Return the report with one more row of a kind."""
        return replace(self, rows=self.rows + 1, **{kind: getattr(self, kind) + 1})


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
    """A window that was seen to: its last row, the report up to there, and its problems."""

    position: int
    report: ImportReport
    problems: Sequence[RowProblem]


_KINDS = {
    OutcomeStatus.CREATED: "created",
    OutcomeStatus.UPDATED: "updated",
    OutcomeStatus.DUPLICATE: "duplicate",
}


async def import_rows(
    rows: Iterator[Row], write: WriteRows, *, report: ImportReport | None = None
) -> AsyncGenerator[Step]:
    """Write all rows, and yield each step; `report` is of the rows before these.

    Ends early when rows were not applied in time: the stream is not there to be filled.
    """
    report = report or ImportReport()
    # In a thread: other work goes on while rows are read and checked.
    while window := await asyncio.to_thread(_next_window, rows):
        good = [row for row in window if row.lead is not None]
        ends = iter(await write(good) if good else ())
        problems: list[RowProblem] = []
        for row in window:
            end = None if row.lead is None else next(ends)
            report = report.with_another(_kind(row, end))
            problem = _problem(row, end)
            if problem is not None:
                problems.append(problem)
        yield Step(window[-1].number, report, problems)
        if report.unknown:
            return


def _next_window(rows: Iterator[Row]) -> list[Row]:
    return list(itertools.islice(rows, WINDOW))


def _kind(row: Row, end: RowEnd | None) -> str:
    if row.lead is None:
        return "invalid"
    return "unknown" if end is None else _KINDS.get(end.status, "refused")


def _problem(row: Row, end: RowEnd | None) -> RowProblem | None:
    if row.lead is None:
        return RowProblem(row.number, row.errors)
    if end is None or end.status in {OutcomeStatus.CREATED, OutcomeStatus.UPDATED}:
        return None
    match end.status:
        case OutcomeStatus.DUPLICATE:
            errors = {end.detail["field"]: "Is taken"}
            return RowProblem(row.number, errors, end.detail["leadId"])
        case OutcomeStatus.ERASED:
            errors = {end.detail["field"]: "Belongs to a lead that was deleted"}
            return RowProblem(row.number, errors)
        case _:
            return RowProblem(row.number, {"row": "Could not be written"})
