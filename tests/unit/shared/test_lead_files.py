"""Leads survive a spreadsheet, and a spreadsheet survives them."""

import csv
import io
from collections.abc import Sequence

import orjson
import pytest

from shared.domain.errors import PermanentError
from shared.domain.lead_file import FileFormat, ImportMode
from shared.events.lead_fields import GivenLead, LeadFields
from shared.lead_files import (
    COLUMNS,
    LONGEST_LINE,
    HeaderError,
    Layout,
    Row,
    csv_header,
    csv_line,
    fields_of,
    header_of,
    lines_of,
    mapped,
    read_rows,
)
from tests.support.builders import lead_fields


def read(
    text: str,
    file_format: FileFormat = FileFormat.CSV,
    layout: Layout | None = None,
    *,
    after: int = 0,
) -> list[Row]:
    return list(
        read_rows(lines_of(io.StringIO(text, newline="")), file_format, layout, after=after)
    )


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


def problems(header: str, layout: Layout | None = None) -> dict[str, str]:
    with pytest.raises(HeaderError) as raised:
        fields_of(header_of(header), layout or Layout())
    return dict(raised.value.columns)


def test_columns_that_cannot_be_read_by_are_named() -> None:
    assert problems("firstName,shoe size\n").keys() == {"shoe size"}
    assert problems("firstName,lastName\n") == {"email": "Is missing"}
    assert problems("First Name,first_name,lastName,email\n") == {
        "firstName": "Is there more than once"
    }
    assert problems("firstName,lastName,email\n", Layout(mode=ImportMode.UPSERT)) == {
        "externalId": "Is missing"
    }
    assert problems("firstName,lastName,email\n", Layout(mapping={"Mail": "email"})) == {
        "Mail": "Is mapped, and not in the file"
    }
    assert problems("\n").keys() == {"email", "firstName", "lastName"}


def test_a_mapping_is_of_a_title_and_a_field_or_nothing() -> None:
    assert mapped("E-Mail: work:email") == ("E-Mail: work", "email")
    assert mapped(" Notes :") == ("Notes", "")


@pytest.mark.parametrize("text", ["", "Mail", ":email", " :email", "Mail:mail", "Mail:email "])
def test_a_mapping_of_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Must be a title and one of these: externalId, firstName"):
        mapped(text)


def test_columns_are_called_what_the_mapping_says() -> None:
    layout = Layout(mapping={"E-Mail: work": "email", "Notes": "", "City": "country"})
    text = "e-mail: WORK,First Name,lastName,notes,city\nada@example.com,Ada,King,x,France\n"
    [row] = read(text, layout=layout)
    assert row.lead == LeadFields(
        first_name="Ada", last_name="King", email="ada@example.com", country="France"
    )


@pytest.mark.parametrize("delimiter", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_spreadsheets_of_all_countries_are_read(delimiter: str, ending: str) -> None:
    lines = [
        ("\ufefffirstName", '"last,;\tName"', "email", "city"),
        ("Ada", f'"King, {delimiter} ""the"" Countess"', "ada@example.com", f'"a{ending}b"'),
        ("", "", "", ""),
        ("Mary", "King", "mary@example.com", ""),
    ]
    text = ending.join(delimiter.join(cells) for cells in lines)
    bad, good = read(text, layout=Layout(mapping={"last,;\tName": "lastName"}))
    # Line breaks and tabs are in no field, but they end neither row nor cell.
    wrong = {"city", "lastName"} if delimiter == "\t" else {"city"}
    assert (bad.number, set(bad.errors)) == (1, wrong)
    assert (good.number, good.lead and good.lead.first_name) == (3, "Mary")


def test_rows_that_were_seen_to_are_passed_over_and_counted() -> None:
    text = "firstName,lastName,email\n" + "Ada,King,nobody\n" * 5
    assert [row.number for row in read(text, after=3)] == [4, 5]
    assert [row.number for row in read("{}\n" * 5, FileFormat.NDJSON, after=3)] == [4, 5]


def test_what_is_no_csv_is_refused_at_its_row() -> None:
    text = 'firstName,lastName,email\nAda,King,ada@example.com\nAda,"King" x,b@example.com\n'
    rows = read_rows(text.splitlines(keepends=True), FileFormat.CSV)
    assert next(rows).number == 1
    with pytest.raises(PermanentError, match="Not a CSV file") as raised:
        next(rows)
    assert (raised.value.code, raised.value.details) == ("not-csv", {"row": 2})


def test_a_line_that_is_too_long_is_not_held() -> None:
    long = "x" * (3 * LONGEST_LINE)
    assert [len(line) for line in lines_of(io.StringIO(f"{long}\nx\n"))] == [LONGEST_LINE + 1, 2]
    assert [row.number for row in read(f"{long}\n[]", FileFormat.NDJSON)] == [1, 2]
    with pytest.raises(PermanentError, match="too long"):
        read(f"firstName,lastName,email\n{long}\n")


def test_an_upsert_needs_an_external_id_and_knows_what_is_given() -> None:
    text = (
        "externalId,firstName,lastName,email,city\n"
        "7e2d1e6c-2f5f-4e0b-9c55-8f2f3a0f6b1e,Ada,King,ada@example.com,\n,Ada,King,a@example.com,\n"
    )
    good, bad = read(text, layout=Layout(mode=ImportMode.UPSERT))
    assert isinstance(good.lead, GivenLead)
    assert good.lead.given().keys() == {"external_id", "first_name", "last_name", "email"}
    assert bad.errors == {"externalId": "Is required"}


def test_errors_do_not_repeat_what_they_are_about() -> None:
    text = "externalId,firstName,lastName,email\nzebra,zebra" + "z" * 60 + ",,zebra\n"
    [row] = read(text)
    assert set(row.errors) == {"externalId", "firstName", "lastName", "email"}
    assert not [message for message in row.errors.values() if "z" in message.lower()]


def test_bad_rows_say_why() -> None:
    rows = read("firstName,lastName,email\nAda,King,nobody\nAda,King\n\n,,\n")
    assert [(row.number, row.lead, dict(row.errors)) for row in rows] == [
        (1, None, {"email": "Email must be a valid email address"}),
        (2, None, {"row": "Has 2 cells, the header has 3"}),
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
