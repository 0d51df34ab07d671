"""Reading leads row by row: CSV from spreadsheets, NDJSON from programs."""

import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TextIO, cast

import orjson
from pydantic import ValidationError

from shared.domain.errors import PermanentError
from shared.domain.lead_file import FileFormat, ImportMode
from shared.events.lead_fields import GivenLead, LeadFields
from shared.events.wording import message_of
from shared.lead_files.columns import COLUMNS, FIELDS, Layout, delimiter_of, fields_of

# A lead has eleven short fields; a longer line is something else.
LONGEST_LINE = 64 * 1024
# Wrong fields of a row that are reported: more are not read.
MOST_ERRORS = 50
LONGEST_NAME = 60

_QUOTED_FORMULA = re.compile(r"'(?='*[=@\t\r+-])")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a file, counted from 1 without the header: a lead, or what is wrong with it."""

    number: int
    lead: LeadFields | None
    errors: Mapping[str, str]


def lines_of(file: TextIO) -> Iterator[str]:
    """Yield the lines of a file. Of one that is too long only enough to see that is kept."""
    while line := file.readline(LONGEST_LINE + 1):
        yield line
        while len(line) > LONGEST_LINE and not line.endswith("\n"):
            line = file.readline(LONGEST_LINE + 1)


def read_rows(
    lines: Iterable[str], file_format: FileFormat, layout: Layout | None = None, *, after: int = 0
) -> Iterator[Row]:
    """Yield the rows of a file whose number is greater than `after`; the others go unchecked.

    Raises `HeaderError`, or `PermanentError` with code `not-csv` and the `row` in its details
    for what cannot be read any further.
    """
    layout = layout or Layout()
    if file_format is FileFormat.NDJSON:
        yield from _ndjson_rows(lines, layout, after)
    else:
        yield from _csv_rows(lines, layout, after)


def _csv_rows(lines: Iterable[str], layout: Layout, after: int) -> Iterator[Row]:
    lines = iter(lines)
    first = next(lines, None)
    if first is None:
        return
    whole = itertools.chain([first], lines)
    reader = csv.reader(map(_checked, whole), delimiter=delimiter_of(first), strict=True)
    names: list[str] = []
    number = -1
    try:
        for number, cells in enumerate(reader):
            if number == 0:
                names = fields_of(cells, layout)
            elif number > after and any(cells):
                yield _csv_row(number, cells, names, layout)
    except csv.Error as error:
        row = number + 1
        raise PermanentError(f"Not a CSV file: {error}", code="not-csv", row=row) from error


def _checked(line: str) -> str:
    if len(line) > LONGEST_LINE:
        raise csv.Error("a line is too long")
    return line


def _csv_row(number: int, cells: list[str], names: list[str], layout: Layout) -> Row:
    if len(cells) != len(names):
        return Row(number, None, {"row": f"Has {len(cells)} cells, the header has {len(names)}"})
    values = {
        name: cell[1:] if _QUOTED_FORMULA.match(cell) else cell
        for name, cell in zip(names, cells, strict=True)
        if name in FIELDS.values() and cell
    }
    return _row(number, values, layout)


def _ndjson_rows(lines: Iterable[str], layout: Layout, after: int) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if number <= after or not line.strip("\ufeff \t\r\n"):
            continue
        values = _object(line.removeprefix("\ufeff"))
        if values is None:
            yield Row(number, None, {"row": "Is not a JSON object"})
        elif unknown := sorted(set(values) - set(COLUMNS) - set(FIELDS)):
            names = (name[:LONGEST_NAME] for name in unknown[:MOST_ERRORS])
            yield Row(number, None, dict.fromkeys(names, "Is not a field that is known"))
        else:
            yield _row(number, values, layout)


def _object(line: str) -> dict[str, Any] | None:
    if len(line) > LONGEST_LINE:
        return None
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _row(number: int, values: Mapping[str, Any], layout: Layout) -> Row:
    upserts = layout.mode is ImportMode.UPSERT
    # What a row does not say of a lead that is known stays as it is.
    model = GivenLead if upserts else LeadFields
    try:
        lead = model.model_validate(values)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
        return Row(
            number,
            None,
            {".".join(map(str, problem["loc"])): message_of(problem) for problem in problems},
        )
    if upserts and lead.external_id is None:
        return Row(number, None, {"externalId": "Is required"})
    return Row(number, lead, {})
