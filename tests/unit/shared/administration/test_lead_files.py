"""Leads survive a spreadsheet, and a spreadsheet survives them."""

import csv
from collections.abc import Sequence

import orjson
import pytest

from shared.administration.lead_files import (
    COLUMNS,
    FileFormat,
    Row,
    csv_header,
    csv_line,
    read_rows,
)
from shared.domain.errors import PermanentError
from shared.events.lead_fields import LeadFields
from tests.support.builders import lead_fields


def read(text: str, file_format: FileFormat = FileFormat.CSV) -> list[Row]:
    return list(read_rows(text.splitlines(keepends=True), file_format))


def written(leads: Sequence[LeadFields]) -> str:
    return csv_header() + "".join(
        csv_line(orjson.dumps({"id": "1", "version": 1} | orjson.loads(lead.model_dump_json())))
        for lead in leads
    )


def test_a_lead_comes_back_as_it_was() -> None:
    leads = [
        lead_fields(),
        lead_fields(first_name="=HYPERLINK(1)", last_name="@SUM(A1)", city='"Paris", Texas'),
        lead_fields(first_name="-", phone="+44 20 7946 0018", state=None, country=None),
        lead_fields(first_name="'quoted", last_name="O'Brien", city="'=1", cell="'+442079460"),
    ]
    assert [row.lead for row in read(written(leads))] == leads


def test_no_cell_is_a_formula() -> None:
    text = written([lead_fields(first_name="=1+1", last_name="+1+cmd|x", phone="+442079460018")])
    [_, cells] = csv.reader(text.splitlines())
    first_name, last_name, phone = (
        cells[COLUMNS.index(name)] for name in ("firstName", "lastName", "phone")
    )
    assert (first_name, last_name, phone) == ("'=1+1", "'+1+cmd|x", "+442079460018")


def test_titles_may_be_written_in_any_common_way() -> None:
    [row] = read("\ufeffFirst Name,LAST_NAME,email,External ID\nAda,King,ada@example.com,\n")
    assert row.lead == LeadFields(first_name="Ada", last_name="King", email="ada@example.com")


def test_unknown_columns_are_refused_by_name() -> None:
    with pytest.raises(PermanentError, match="Unknown columns: shoe size"):
        read("firstName,shoe size\nAda,38\n")


def test_what_is_no_csv_is_refused() -> None:
    with pytest.raises(PermanentError, match="Not a CSV file"):
        read('firstName\n"Ada\n')


def test_bad_rows_say_why() -> None:
    rows = read("firstName,lastName,email\nAda,King,nobody\nAda,King\n\n,,\n")
    assert [(row.number, row.lead, dict(row.errors)) for row in rows] == [
        (1, None, {"email": "Email must be a valid email address"}),
        (2, None, {"row": "has 2 cells, the header has 3"}),
    ]


def test_bad_lines_of_json_say_why() -> None:
    good = lead_fields()
    lines = [good.model_dump_json(), "[]", '{"shoeSize": 38}', "{", "", '{"id": "1"}']
    rows = read("\n".join(lines), FileFormat.NDJSON)
    assert [(row.number, set(row.errors)) for row in rows] == [
        (1, set()),
        (2, {"row"}),
        (3, {"shoeSize"}),
        (4, {"row"}),
        (6, {"firstName", "lastName", "email"}),
    ]
    assert rows[0].lead == good


def test_what_is_no_utf8_is_a_bad_row() -> None:
    line = b"firstName,lastName,email\nAd\xe9le,King,ada@example.com\n"
    [row] = read(line.decode(errors="surrogateescape"))
    assert set(row.errors) == {"firstName"}
