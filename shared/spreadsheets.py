"""CSV as spreadsheets write it: from bytes to records, and cells that no spreadsheet runs."""

import codecs
import contextlib
import csv
import io
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TextIO

from shared.domain.errors import PermanentError

# Where a comma is the decimal point, spreadsheets write semicolons.
DELIMITERS = ",;\t|"

# A lead has eleven short fields; a longer line is something else, and so is a longer record.
LONGEST_LINE = 64 * 1024
_MOST_LINES = 1_000

# What a cell is known by that was read in another encoding than it was written in.
UNREADABLE = re.compile("[\ud800-\udfff]")

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    # Before the mark of UTF-16, which this one begins with.
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_LONGEST_MARK = 4

_CHARSET = re.compile(
    r"utf-(?:8|16|32)(?:-sig|-[lb]e)?|ascii|cp\d+|iso8859-\d+|mac-[a-z]+|koi8-[rtu]"
    r"|gb18030|gbk|gb2312|big5|euc_(?:jp|kr)|shift_jis"
)
# Who says Latin-1 means Windows-1252, which has more letters: https://encoding.spec.whatwg.org
_MEANT = {"iso8859-1": "cp1252", "ascii": "utf-8"}
# Python reads these by a mark alone, and fails without one. Little-endian is what the same
# standard takes UTF-16 to be.
_UNMARKED = {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}


def encoding_named(charset: str) -> str:
    """Return the encoding of text that is called so; raises `ValueError` for what is none."""
    try:
        name = codecs.lookup(charset).name if charset.isascii() else ""
    except LookupError:
        name = ""
    if not _CHARSET.fullmatch(name):
        raise ValueError("Is no encoding that is known: utf-8, utf-16 and windows-1252 are")
    return _MEANT.get(name, name)


def open_text(file: io.RawIOBase | io.BytesIO, charset: str | None = None) -> TextIO:
    """Return a file's text, decoded by its mark, or else as `charset` says, which is UTF-8.

    What cannot be decoded becomes characters that `UNREADABLE` finds.
    """
    buffered = io.BufferedReader(file)
    encoding = _encoding(buffered.peek(_LONGEST_MARK), charset)
    errors = "surrogatepass" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
    return io.TextIOWrapper(buffered, encoding=encoding, errors=errors, newline="")


def _encoding(beginning: bytes, charset: str | None) -> str:
    for mark, encoding in _MARKS.items():
        if beginning.startswith(mark):
            return encoding
    # A letter in UTF-16 without a mark.
    match [byte == 0 for byte in beginning[:2]]:
        case [True, False]:
            return "utf-16-be"
        case [False, True]:
            return "utf-16-le"
        case _:
            named = encoding_named(charset or "utf-8")
            return _UNMARKED.get(named, named)


def lines_of(file: TextIO) -> Iterator[str]:
    """Yield the lines of a file. Of one that is too long only enough to see that is kept."""
    try:
        while line := file.readline(LONGEST_LINE + 1):
            yield line
            while len(line) > LONGEST_LINE and not line.endswith(("\n", "\r")):
                line = file.readline(LONGEST_LINE + 1)
    except UnicodeDecodeError:  # half a character at the end of UTF-16
        yield "\udc80"


class RecordError(Exception):
    """A line that cannot be read; the message says why of it."""


_TOO_LONG = "is too long, or has a quote that is never closed"


def _reason(error: csv.Error) -> str:
    match str(error):
        case "unexpected end of data":
            return "has a quote that is never closed"
        case text if text.endswith("expected after '\"'"):
            return "has a quote within a cell, or text after a quoted one"
        case text:
            return text if text == _TOO_LONG else f"is no line of a CSV file: {text}"


# How Excel is told the delimiter; it may have put quotes or delimiters around that itself.
_SEP = re.compile(r'"?sep=(?P<delimiter>[^\s\w"]|\t)"?(?P=delimiter)*', re.IGNORECASE)
_BLANK = f"\ufeff{DELIMITERS} \r\n"


class Records:
    """The records of a file, of which one that cannot be read costs no other.

    A quote that does not fit may make one record of many. So what cannot be read is taken to be
    one line, and what follows is read anew.
    """

    def __init__(self, lines: Iterable[str], delimiter: str = DELIMITERS[0]) -> None:
        self._lines = iter(lines)
        self._delimiter = delimiter
        self._waiting = deque[str]()
        self._taken: list[str] = []

    @property
    def has_rest(self) -> bool:
        """Whether the last record has more than one line."""
        return len(self._taken) > 1

    def inner_lines(self) -> Iterator[list[str]]:
        """Yield the cells of each line inside the last record, as if it were one.

        Its last line is not: that ends the quote, and by itself it is half a cell.
        """
        for line in self._taken[1:-1]:
            with contextlib.suppress(csv.Error):
                yield from self._parsed([line])

    def read(self) -> list[str] | None:
        """Return the cells of the next record; None at the end. Raises `RecordError`."""
        self._taken = []
        try:
            return next(self._parsed(self._take()), None)
        except csv.Error as error:
            self.read_rest_anew()
            raise RecordError(_reason(error)) from error

    def read_rest_anew(self) -> None:
        """Take the last record to be its first line alone."""
        self._put_back(self._taken[1:])
        del self._taken[1:]

    def read_header(self, score: Callable[[Sequence[str]], int]) -> list[str]:
        """Return the first record that is not blank; none in a file without one.

        The delimiter is that of a line `sep=;`, or else the one whose titles have the best score.
        Raises `PermanentError` with code `not-csv`.
        """
        first = self._first_line()
        if (named := _SEP.fullmatch(first.strip("\ufeff\r\n"))) is not None:
            self._delimiter = named["delimiter"]
            first = self._first_line()
            self._put_back([first])
        else:
            self._put_back([first.removeprefix("\ufeff")])
            titles = {delimiter: self._titles_by(delimiter) for delimiter in DELIMITERS}
            self._delimiter = max(titles, key=lambda one: (score(titles[one]), len(titles[one])))
        try:
            return self.read() or []
        except RecordError as error:
            raise PermanentError(f"The header {error}", code="not-csv") from error

    def _parsed(self, lines: Iterable[str]) -> Iterator[list[str]]:
        # People put a space behind a comma, and the quote behind that.
        return csv.reader(lines, delimiter=self._delimiter, strict=True, skipinitialspace=True)

    def _titles_by(self, delimiter: str) -> list[str]:
        self._delimiter = delimiter
        try:
            titles = self.read()
        except RecordError:
            titles = None
        self._put_back(self._taken)
        return titles or []

    def _first_line(self) -> str:
        while (line := self._next_line()) is not None:
            if line.strip(_BLANK):
                return line
        return ""

    def _take(self) -> Iterator[str]:
        size = 0
        while (line := self._next_line()) is not None:
            self._taken.append(line)
            size += len(line)
            if size > LONGEST_LINE or len(self._taken) > _MOST_LINES:
                raise csv.Error(_TOO_LONG)
            yield line

    def _next_line(self) -> str | None:
        return self._waiting.popleft() if self._waiting else next(self._lines, None)

    def _put_back(self, lines: Sequence[str]) -> None:
        self._waiting.extendleft(reversed(lines))


# What a spreadsheet takes for a formula begins so, also in the letters of East Asian keyboards.
# Where lists are separated by semicolons a cell ends there, whatever the file was written with.
_FORMULA = "[=@+\\-\t\r\uff1d\uff20\uff0b\uff0d]"
_BEFORE = r"(^|[;|\t])(\s*)"
_to_guard = re.compile(f"{_BEFORE}(?='*{_FORMULA})")
_guarded = re.compile(f"{_BEFORE}'(?='*{_FORMULA})")
# A text that its author kept from being read as a number: ="+4479...".
_WRAPPED = re.compile(r'="((?:[^"]|"")*)"')


def read_cell(cell: str) -> str:
    """Return what a cell means: without what keeps a spreadsheet from taking it for more."""
    if "'" not in cell and "=" not in cell:  # nearly every cell
        return cell.strip()
    if (wrapped := _WRAPPED.fullmatch(cell.strip())) is not None:
        return wrapped[1].replace('""', '"').strip()
    return _guarded.sub(r"\1\2", cell).strip()


def record_line(values: Iterable[object]) -> str:
    """Return a line of cells, in which an apostrophe stands before what would be a formula."""
    target = io.StringIO()
    csv.writer(target).writerow(_to_guard.sub(r"\1\2'", text_of(value)) for value in values)
    return target.getvalue()


def text_of(value: object) -> str:
    """Return how a value is written in a cell: as in JSON, and nothing for null."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
