"""Leads as rows of a file: CSV for spreadsheets, NDJSON for programs."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

import orjson
from pydantic import ValidationError

from shared.domain.errors import PermanentError
from shared.events.lead_fields import LeadFields

# A lead has eleven short fields; a longer line is something else.
LONGEST_LINE = 64 * 1024

COLUMNS = (
    "id",
    "externalId",
    "firstName",
    "lastName",
    "email",
    "phone",
    "cell",
    "dob",
    "city",
    "state",
    "country",
    "picture",
    "summary",
    "nextAction",
    "summaryStale",
    "status",
    "source",
    "createdBy",
    "createdAt",
    "updatedAt",
    "version",
)
FIELDS = {name: info.alias or name for name, info in LeadFields.model_fields.items()}

# What a spreadsheet takes for a formula, unless it is a number or a phone number; and what
# looks as if it had been quoted for that already.
_FORMULA = re.compile(r"[=@\t\r]|[+-](?![\d ().-]*$)|'+[=@\t\r+-]")
_QUOTED_FORMULA = re.compile(r"'(?='*[=@\t\r+-])")


class FileFormat(StrEnum):
    """How leads are written."""

    CSV = "csv"
    NDJSON = "ndjson"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a file, counted from 1 without the header: a lead, or what is wrong with it."""

    number: int
    lead: LeadFields | None
    errors: Mapping[str, str]


def read_rows(lines: Iterable[str], file_format: FileFormat) -> Iterator[Row]:
    """Yield the rows of a file.

    Columns that only an export has, such as `id`, are passed over. Raises `PermanentError`
    with code `unknown-columns` for others, or `not-csv` for what cannot be read at all.
    """
    if file_format is FileFormat.NDJSON:
        yield from _ndjson_rows(lines)
    else:
        try:
            yield from _csv_rows(lines)
        except csv.Error as error:
            raise PermanentError(f"Not a CSV file: {error}", code="not-csv") from error


def csv_header() -> str:
    """Return the first line of a CSV file."""
    return _csv_line(COLUMNS)


def csv_line(document: bytes) -> str:
    """Return a lead's JSON as a line of a CSV file."""
    lead = orjson.loads(document)
    return _csv_line([_cell(lead.get(name)) for name in COLUMNS])


def _csv_rows(lines: Iterable[str]) -> Iterator[Row]:
    reader = csv.reader(lines, strict=True)
    header = next(reader, None)
    if header is None:
        return
    names = [_field(column) for column in header]
    _refuse_unknown(header, names)
    for number, cells in enumerate(reader, start=1):
        if not any(cells):
            continue
        if len(cells) != len(names):
            message = f"has {len(cells)} cells, the header has {len(names)}"
            yield Row(number, None, {"row": message})
            continue
        values = {
            name: cell[1:] if _QUOTED_FORMULA.match(cell) else cell
            for name, cell in zip(names, cells, strict=True)
            if name in FIELDS.values() and cell
        }
        yield _row(number, values)


def _ndjson_rows(lines: Iterable[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        values = _object(line)
        if values is None:
            yield Row(number, None, {"row": "is not a JSON object"})
        elif unknown := sorted(set(values) - set(COLUMNS) - set(FIELDS)):
            yield Row(number, None, dict.fromkeys(unknown, "Unknown field"))
        else:
            yield _row(number, values)


def _object(line: str) -> dict[str, Any] | None:
    if len(line) > LONGEST_LINE:
        return None
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _row(number: int, values: Mapping[str, Any]) -> Row:
    try:
        return Row(number, LeadFields.model_validate(values), {})
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False, include_context=False)
        return Row(
            number,
            None,
            {".".join(map(str, problem["loc"])): problem["msg"] for problem in problems},
        )


def _field(column: str) -> str:
    """Return the field a column's title means, however it is written; else the title."""
    plain = re.sub(r"[\s_-]", "", column.removeprefix("\ufeff")).lower()
    return next((name for name in COLUMNS if name.lower() == plain), column)


def _refuse_unknown(header: list[str], names: list[str]) -> None:
    unknown = [column for column, name in zip(header, names, strict=True) if name not in COLUMNS]
    if unknown:
        names_given = ", ".join(unknown).encode(errors="replace").decode()
        raise PermanentError(
            f"Unknown columns: {names_given}. Known are: {', '.join(FIELDS.values())}",
            code="unknown-columns",
        )


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if _FORMULA.match(text) else text


def _csv_line(cells: Sequence[str]) -> str:
    target = io.StringIO()
    csv.writer(target).writerow(cells)
    return target.getvalue()
