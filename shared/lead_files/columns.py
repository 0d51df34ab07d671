"""The columns of a file of leads: their titles, and which field each is."""

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shared.domain.errors import PermanentError
from shared.domain.lead_file import ImportMode
from shared.events.lead_fields import DOCUMENT_NAMES, LeadFields

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
