"""Leads as files, row by row: CSV for spreadsheets, NDJSON for programs."""

import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO, cast

import orjson
from pydantic import ValidationError

from shared.domain.errors import PermanentError
from shared.domain.lead_file import FileFormat, ImportMode
from shared.events.lead_fields import DOCUMENT_NAMES, GivenLead, LeadFields
from shared.events.wording import message_of

COLUMNS = DOCUMENT_NAMES
FIELDS = {name: info.alias or name for name, info in LeadFields.model_fields.items()}
REQUIRED = {
    info.alias or name for name, info in LeadFields.model_fields.items() if info.is_required()
}

# Where a comma is the decimal point, spreadsheets write semicolons.
DELIMITERS = ",;\t"

# What a column is called in a mapping that passes it over.
IGNORED = ""

# What stands between the two in a mapping of one column.
SEPARATOR = ":"

_QUOTED = re.compile(r'"[^"]*"')

# A lead has eleven short fields; a longer line is something else.
LONGEST_LINE = 64 * 1024
# Wrong fields of a row that are reported: more are not read.
MOST_ERRORS = 50
LONGEST_NAME = 60

_QUOTED_FORMULA = re.compile(r"'(?='*[=@\t\r+-])")

# What a spreadsheet takes for a formula, unless it is a number or a phone number; and what
# looks as if it had been quoted for that already.
_FORMULA = re.compile(r"[=@\t\r]|[+-](?![\d ().-]*$)|'+[=@\t\r+-]")


class HeaderError(PermanentError):
    """A header that cannot be read by; `columns` says what is wrong with each column."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in columns.items())
        super().__init__(reasons.encode(errors="replace").decode(), code="wrong-columns")
        self.columns = columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How to read a file: what columns are called there, and what rows need.

    `mapping` is from titles to fields, `IGNORED` for columns to be passed over.
    """

    mapping: Mapping[str, str] = field(default_factory=dict[str, str])
    mode: ImportMode = ImportMode.CREATE

    @property
    def required(self) -> set[str]:
        """The fields that every row must have."""
        return REQUIRED | ({"externalId"} if self.mode is ImportMode.UPSERT else set())


def mapped(text: str) -> tuple[str, str]:
    """Return a column's title and field, given as `title:field`, or `title:` to pass it over.

    A title may hold colons, a field has none. Raises `ValueError` for anything else.
    """
    title, separator, name = text.rpartition(SEPARATOR)
    if not separator or not title.strip() or name not in {*FIELDS.values(), IGNORED}:
        known = ", ".join(FIELDS.values())
        raise ValueError(f"Must be a title and one of these: {known}; or nothing")
    return title.strip(), name


def delimiter_of(header: str) -> str:
    """Return what separates the cells of a header line."""
    plain = _QUOTED.sub("", header)
    return max(DELIMITERS, key=plain.count)


def header_of(text: str) -> list[str]:
    """Return the titles at the beginning of a CSV file; none when it is empty."""
    # Lines end as those of files do, not with everything that Unicode takes for an end.
    lines = io.StringIO(text, newline="")
    delimiter = delimiter_of(lines.readline())
    lines.seek(0)
    try:
        for header in csv.reader(lines, delimiter=delimiter, strict=True):
            return header
    except csv.Error as error:
        raise PermanentError(f"Not a CSV file: {error}", code="not-csv") from error
    return []


def fields_of(header: Sequence[str], layout: Layout) -> list[str]:
    """Return the field of each column, or a name that no field has; raises `HeaderError`.

    Columns that only an export has, such as `id`, are passed over.
    """
    titles = [title.removeprefix("\ufeff") for title in header]
    mapping = {_plain(title): name for title, name in layout.mapping.items()}
    names = [mapping.get(_plain(title), _column(title)) for title in titles]
    wrong = {
        title: f"Is not known: a lead has {', '.join(FIELDS.values())}"
        for title, name in zip(titles, names, strict=True)
        if name not in {*COLUMNS, IGNORED}
    }
    present = {_plain(title) for title in titles}
    wrong |= {
        title: "Is mapped, and not in the file"
        for title in layout.mapping
        if _plain(title) not in present
    }
    counts = Counter(name for name in names if name in FIELDS.values())
    wrong |= {name: "Is there more than once" for name, count in counts.items() if count > 1}
    if not wrong:
        wrong = dict.fromkeys(sorted(layout.required - counts.keys()), "Is missing")
    if wrong:
        raise HeaderError(wrong)
    return names


def _column(title: str) -> str:
    """Return the column that a title means, however it is written; else the title."""
    plain = _plain(title)
    return next((name for name in COLUMNS if name.lower() == plain), title or " ")


def _plain(title: str) -> str:
    return re.sub(r"[\s_-]", "", title).casefold()


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


def csv_header() -> str:
    """Return the first line of a CSV file."""
    return _csv_line(COLUMNS)


def csv_line(document: bytes) -> str:
    """Return a lead's JSON as a line of a CSV file."""
    lead = orjson.loads(document)
    return _csv_line([_cell(lead.get(name)) for name in COLUMNS])


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if _FORMULA.match(text) else text


def _csv_line(cells: Sequence[str]) -> str:
    target = io.StringIO()
    csv.writer(target).writerow(cells)
    return target.getvalue()
