"""Leads written as CSV, for spreadsheets."""

import csv
import io
import re
from collections.abc import Sequence
from typing import Any

import orjson

from shared.lead_files.columns import COLUMNS

# What a spreadsheet takes for a formula, unless it is a number or a phone number; and what
# looks as if it had been quoted for that already.
_FORMULA = re.compile(r"[=@\t\r]|[+-](?![\d ().-]*$)|'+[=@\t\r+-]")


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
