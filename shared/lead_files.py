"""Leads as files, row by row: CSV for spreadsheets, NDJSON for programs."""

import io
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast
from uuid import UUID

import orjson
from pydantic import ValidationError

from shared.domain.errors import PermanentError
from shared.domain.lead_file import FileFormat, ImportMode
from shared.events.lead_fields import DOCUMENT_NAMES, INVISIBLE, GivenLead, LeadFields
from shared.events.wording import message_of
from shared.spreadsheets import (
    LONGEST_LINE,
    UNREADABLE,
    RecordError,
    Records,
    lines_of,
    open_text,
    read_cell,
    record_line,
)

COLUMNS = DOCUMENT_NAMES
FIELDS = {name: info.alias or name for name, info in LeadFields.model_fields.items()}
REQUIRED = {
    info.alias or name for name, info in LeadFields.model_fields.items() if info.is_required()
}
# By which an upsert knows a lead that has no externalId.
ID = "id"

# What a column is called in a mapping that passes it over, and one that has no title.
IGNORED = ""
UNTITLED = " "

# What stands between the two in a mapping of one column.
SEPARATOR = ":"

# Wrong fields of a row that are reported: more are not read.
MOST_ERRORS = 50
LONGEST_NAME = 60

_NOT_DECODED = (
    "Is not in the encoding that the file is read in, UTF-8 unless it says otherwise: "
    "windows-1252 (Latin-1) has to be named as its charset"
)


class HeaderError(PermanentError):
    """A header that cannot be read by; `columns` says what is wrong with each column."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        columns = {
            title.encode(errors="replace").decode(): reason for title, reason in columns.items()
        }
        reasons = "; ".join(f"{name}: {reason}" for name, reason in columns.items())
        super().__init__(reasons, code="wrong-columns")
        self.columns = columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How to read a file: what columns are called there, and what rows need.

    `mapping` is from titles to fields, `IGNORED` for columns to be passed over.
    """

    mapping: Mapping[str, str] = field(default_factory=dict[str, str])
    mode: ImportMode = ImportMode.CREATE

    @property
    def upserts(self) -> bool:
        """Whether rows change leads that are known."""
        return self.mode is ImportMode.UPSERT

    def name_of(self, title: str) -> str:
        """Return the column that a title means, however it is written; else the title."""
        mapping = {_plain(one): name for one, name in self.mapping.items()}
        return mapping.get(_plain(title), _column(title))


def mapped(text: str) -> tuple[str, str]:
    """Return a column's title and field, given as `title:field`, or `title:` to pass it over.

    A title may hold colons, a field has none. Raises `ValueError` for anything else.
    """
    title, separator, name = text.rpartition(SEPARATOR)
    if not separator or not title.strip() or name not in {*FIELDS.values(), IGNORED}:
        known = ", ".join(FIELDS.values())
        raise ValueError(f"Must be a title and one of these: {known}; or nothing")
    return title.strip(), name


# ZIP, as which Excel keeps workbooks, and what it kept them as before.
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")


def check_beginning(
    beginning: bytes, file_format: FileFormat, layout: Layout, *, charset: str | None = None
) -> None:
    """Check what a file begins with: of CSV the header.

    Raises `HeaderError`, or `PermanentError` for what is not of its format.
    """
    if beginning.startswith(_WORKBOOKS):
        raise PermanentError("Is a workbook: save it as CSV", code="not-csv")
    if file_format is FileFormat.CSV:
        lines = lines_of(open_text(io.BytesIO(beginning), charset))
        fields_of(_header_of(Records(lines), layout), layout)


def _header_of(records: Records, layout: Layout) -> list[str]:
    known = {*COLUMNS, IGNORED}
    return records.read_header(
        lambda titles: sum(layout.name_of(title) in known for title in titles)
    )


def fields_of(header: Sequence[str], layout: Layout) -> list[str]:
    """Return the field of each column, or a name that no field has; raises `HeaderError`.

    Columns that only an export has, such as `status`, are passed over.
    """
    names = [layout.name_of(title) for title in header]
    wrong = {
        title: _NOT_DECODED
        if UNREADABLE.search(title)
        else f"Is not known: a lead has {', '.join(FIELDS.values())}"
        for title, name in zip(header, names, strict=True)
        if name not in {*COLUMNS, IGNORED, UNTITLED}
    }
    present = {_plain(title) for title in header}
    wrong |= {
        title: "Is mapped, and not in the file"
        for title in layout.mapping
        if _plain(title) not in present
    }
    counts = Counter(name for name in names if name in {*FIELDS.values(), ID})
    wrong |= {name: "Is there more than once" for name, count in counts.items() if count > 1}
    if not wrong:
        # An export has both; who makes a file knows leads by their externalId.
        by_external_id = layout.upserts and ID not in counts
        required = REQUIRED | ({"externalId"} if by_external_id else set[str]())
        wrong = dict.fromkeys(sorted(required - counts.keys()), "Is missing")
    if wrong:
        raise HeaderError(wrong)
    return names


def _column(title: str) -> str:
    plain = _plain(title)
    if not plain:
        return title.strip() or UNTITLED
    return next((name for name in COLUMNS if name.lower() == plain), title)


def _plain(title: str) -> str:
    visible = INVISIBLE.sub("", unicodedata.normalize("NFKC", title))
    return re.sub(r"[\s_-]", "", visible).casefold()


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a file, counted from 1 without the header: a lead, or what is wrong with it.

    `lead_id` is that of the lead to be changed, where it has no externalId. `passed_over` are
    the columns whose values the row has for nothing.
    """

    number: int
    lead: LeadFields | None
    errors: Mapping[str, str]
    lead_id: UUID | None = None
    passed_over: frozenset[str] = frozenset()


def read_rows(
    lines: Iterable[str], file_format: FileFormat, layout: Layout | None = None, *, after: int = 0
) -> Iterator[Row]:
    """Yield the rows of a file whose number is greater than `after`; the others go unchecked.

    Raises `HeaderError`, or `PermanentError` with code `not-csv` for a file without a header. A
    row that cannot be read is one that says so, and the next one is read.
    """
    layout = layout or Layout()
    if file_format is FileFormat.NDJSON:
        yield from _ndjson_rows(lines, layout, after)
    else:
        yield from _csv_rows(lines, layout, after)


def _csv_rows(lines: Iterable[str], layout: Layout, after: int) -> Iterator[Row]:
    records = Records(lines)
    reader = _CsvReader(records, fields_of(_header_of(records, layout), layout), layout)
    for number in itertools.count(1):
        try:
            cells = records.read()
            if cells is None:
                return
            # What a quote has made of several lines is looked at each time: it decides the numbers.
            is_read = number > after or records.has_rest
            row = reader.row(number, cells) if is_read else None
            if row is not None and row.lead is None and reader.has_swallowed_a_row():
                records.read_rest_anew()
                row = Row(number, None, {"row": "Has a quote that is closed in another line"})
        except RecordError as error:
            row = Row(number, None, {"row": str(error).capitalize()})
        if row is not None and number > after:
            yield row


def _text(cell: str) -> str:
    text = read_cell(cell)
    return text if text.isascii() else INVISIBLE.sub("", text).strip()


class _CsvReader:
    """Makes rows of cells, by the fields of their columns."""

    def __init__(self, records: Records, names: Sequence[str], layout: Layout) -> None:
        self._records = records
        self._names = names
        self._layout = layout

    def row(self, number: int, cells: Sequence[str]) -> Row | None:
        """Return the row that cells make; None where all are blank."""
        texts = list(map(_text, cells))
        values = {name: text for name, text in zip(self._names, texts, strict=False) if text}
        misfit = f"Has {len(cells)} cells, the header has {len(self._names)}"
        if any(texts[len(self._names) :]):
            return Row(number, None, {"row": misfit})
        if UNTITLED in values:
            return Row(number, None, {"row": "Has a value in a column without a title"})
        if not values:
            return None
        values.pop(IGNORED, None)
        row = _row(number, values, self._layout)
        if row.lead is None and len(cells) < len(self._names):
            return replace(row, errors={"row": misfit, **row.errors})
        return row

    def has_swallowed_a_row(self) -> bool:
        """Whether a line inside the last record is a good row by itself."""
        rows = (self.row(0, cells) for cells in self._records.inner_lines())
        return any(row is not None and row.lead is not None for row in rows)


def _ndjson_rows(lines: Iterable[str], layout: Layout, after: int) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if number <= after or not line.strip("\ufeff \t\r\n"):
            continue
        values = _object(line.removeprefix("\ufeff"))
        if values is None:
            reason = _NOT_DECODED if UNREADABLE.search(line) else "Is not a JSON object"
            yield Row(number, None, {"row": reason})
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


_ONLY_EXPORTED = frozenset(COLUMNS) - set(FIELDS.values())
_NONE = frozenset[str]()


def _row(number: int, values: Mapping[str, Any], layout: Layout) -> Row:
    """Return the row that these values by column make."""
    passed_over = _NONE
    if not _ONLY_EXPORTED.isdisjoint(values):
        exported = _ONLY_EXPORTED.intersection(values)
        passed_over = frozenset(name for name in exported if values[name] is not None)
    # What a row does not say of a lead that is known stays as it is.
    model = GivenLead if layout.upserts else LeadFields
    try:
        lead = model.model_validate(values)
    except ValidationError as error:
        return Row(number, None, _errors(error, values))
    if not layout.upserts or lead.external_id is not None:
        return Row(number, lead, {}, passed_over=passed_over)
    if ID not in passed_over:
        return Row(number, None, {"externalId": "Is required"})
    try:
        lead_id = UUID(str(values[ID]))
    except ValueError:
        return Row(number, None, {ID: "Must be a UUID"})
    return Row(number, lead, {}, lead_id=lead_id, passed_over=passed_over - {ID})


def _errors(error: ValidationError, values: Mapping[str, Any]) -> dict[str, str]:
    problems = error.errors(include_input=False, include_url=False)
    errors = {".".join(map(str, one["loc"])): message_of(one) for one in problems}
    undecoded = (
        name
        for name in errors.keys() & values.keys()
        if isinstance(values[name], str) and UNREADABLE.search(values[name])
    )
    return errors | dict.fromkeys(undecoded, _NOT_DECODED)


def csv_header() -> str:
    """Return the first line of a CSV file."""
    return record_line(COLUMNS)


def csv_line(document: bytes) -> str:
    """Return a lead's JSON as a line of a CSV file."""
    lead = orjson.loads(document)
    return record_line(lead.get(name) for name in COLUMNS)
