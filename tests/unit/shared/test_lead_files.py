"""Leads survive a spreadsheet, and a spreadsheet survives them."""

import csv
import io
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from shared.domain.errors import PermanentError
from shared.domain.lead_file import FileFormat, ImportMode
from shared.events.lead_fields import GivenLead, LeadFields
from shared.lead_files import (
    COLUMNS,
    HeaderError,
    Layout,
    Row,
    check_beginning,
    csv_header,
    csv_line,
    mapped,
    read_rows,
)
from shared.spreadsheets import LONGEST_LINE, lines_of, open_text
from tests.support.builders import lead_fields


def read(
    content: str | bytes,
    file_format: FileFormat = FileFormat.CSV,
    layout: Layout | None = None,
    *,
    charset: str | None = None,
    after: int = 0,
) -> list[Row]:
    given = content if isinstance(content, bytes) else content.encode()
    lines = lines_of(open_text(io.BytesIO(given), charset))
    return list(read_rows(lines, file_format, layout, after=after))


UPSERT = Layout(mode=ImportMode.UPSERT)
HEADER = "firstName,lastName,email,city,phone\n"
ADA, BOB, CY = (f"{name},King,{name}@example.com,,\n" for name in ("Ada", "Bob", "Cy"))


def outcome(content: str | bytes, layout: Layout | None = None, **options: Any) -> list[Any]:
    """Return the first names of good rows, and the numbers of bad ones with their columns."""
    return [
        row.lead.first_name if row.lead else (row.number, *sorted(row.errors))
        for row in read(content, layout=layout, **options)
    ]


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
    assert (first_name, last_name, phone) == ("'=1+1", "'+1+cmd|x", "'+442079460018")


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        *((f"{sign}1+1", f"'{sign}1+1") for sign in "=+-@\uff1d\uff0b\uff0d\uff20"),
        ("a;=1+1", "a;'=1+1"),
        ("a; @SUM(A1)|-2", "a; '@SUM(A1)|'-2"),
        ("'=1", "''=1"),
        ("a;'=1", "a;''=1"),
        ("Winston-Salem", "Winston-Salem"),
        ("St. John's, -", "St. John's, -"),
    ],
)
def test_no_part_of_a_cell_is_a_formula_and_each_comes_back(text: str, cell: str) -> None:
    lead = lead_fields(city=text)
    [_, cells] = csv.reader(written([lead]).splitlines())
    assert cells[COLUMNS.index("city")] == cell
    assert [row.lead for row in read(written([lead]))] == [lead]


def test_titles_may_be_written_in_any_common_way() -> None:
    [row] = read("\ufeffFirst Name,LAST_NAME,email,External ID\nAda,King,ada@example.com,\n")
    assert row.lead == LeadFields(first_name="Ada", last_name="King", email="ada@example.com")


def problems(header: str, layout: Layout | None = None) -> dict[str, str]:
    with pytest.raises(HeaderError) as raised:
        check_beginning(header.encode(), FileFormat.CSV, layout or Layout())
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


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"], ids=["comma", "semi", "tab", "bar"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
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


@pytest.mark.parametrize(
    ("bad", "number"),
    [
        ('Dan,"King" x,d@example.com,,\n', 1),
        ('Dan,"King,d@example.com,,\n', 1),
        ('"Dan,King,d@example.com,,\n', 1),
        ('"Dan","King","d@example.com,,\n', 1),
        ('Dan,King,d@example.com,"London\n', 1),
        ('Dan,King,d@example.com,"Lon""don\n', 1),
        ("Dan,King, Countess,d@example.com,,,\n", 1),
        ("x" * (LONGEST_LINE + 9) + "\n", 1),
        ('Dan,"King,d@example.com,,\nDan,"King,d@example.com,,\n', 2),
        # Another row with such a quote makes one record of all that is between them.
        ('Dan,"King,d@example.com,,\nEve,King,eve@example.com,,\nDan,King",nobody,,\n', 2),
    ],
    ids=range(10),
)
def test_one_bad_line_costs_no_other(bad: str, number: int) -> None:
    quoted = 'Fay,"King, Jr",f@example.com,"",\n'
    ends = outcome(f"{HEADER}{ADA}{bad}{BOB}{quoted}{bad}{CY}")
    good = [end for end in ends if isinstance(end, str) and end != "Eve"]
    assert good == ["Ada", "Bob", "Fay", "Cy"]
    assert len([end for end in ends if not isinstance(end, str)]) == 2 * number
    # In whatever part of the file reading begins anew, rows have the same numbers.
    text = f"{HEADER}{ADA}{bad}{BOB}{quoted}{bad}{CY}"
    numbers = [row.number for row in read(text)]
    for after in range(len(numbers)):
        assert [row.number for row in read(text, after=numbers[after])] == numbers[after + 1 :]


def test_a_cell_of_several_lines_is_one_cell() -> None:
    layout = Layout(mapping={"notes": ""})
    text = 'firstName,lastName,email,notes\nAda,King,a@example.com,"one\n\ntwo, ""three""\n"\n'
    assert outcome(text + "Bob,King,b@example.com,x\n", layout) == ["Ada", "Bob"]
    assert outcome(text.replace("a@", "") + "Bob,King,b@example.com,x\n", layout) == [
        (1, "email"),
        "Bob",
    ]


def test_half_a_cell_of_several_lines_is_no_row() -> None:
    # `da",King,a@example.com` would be a good row, of somebody called `da"`.
    assert outcome(f'{HEADER}"A\nda",King,a@example.com,,\n{BOB}') == [(1, "firstName"), "Bob"]


@pytest.mark.parametrize(
    ("row", "end"),
    [
        ("Ada,King,a@example.com", "Ada"),
        ("Ada,King,a@example.com, ,\u00a0", "Ada"),
        ("Ada,King,a@example.com,,,,, ,", "Ada"),
        (" Ada , King , a@example.com ,,", "Ada"),
        ('Ada, "King, Countess", "a@example.com", "",', "Ada"),
        ('Ada "the" Countess,King,a@example.com,,', 'Ada "the" Countess'),
        ("Ada,King", (1, "email", "row")),
        ("Ada,King,a@example.com,,,x", (1, "row")),
        (" , , ", None),
        (",,,,", None),
        ('"","",""', None),
        ("\u200b,\t,\u3164", None),
        ("Ada,King,a@example.com,\ufeff,\u200b\u00a0", "Ada"),
        ("\u200b,King,a@example.com", (1, "firstName", "row")),
    ],
)
def test_blank_cells_are_no_values(row: str, end: Any) -> None:
    assert outcome(f"{HEADER}{row}\n{BOB}") == [*([end] if end else []), "Bob"]


@pytest.mark.parametrize(
    "header",
    [
        '\ufeff"First Name","Last Name","E-Mail"',
        "firstName,lastName,email,",
        "first_name,,LAST NAME,e-mail,,",
        "\n\n,,,\nfirstName,lastName,email",
        "sep=,\nfirstName,lastName,email",
        '\ufeff"sep=,"\nfirstName,lastName,email',
    ],
)
def test_headers_are_read_as_spreadsheets_write_them(header: str) -> None:
    cells = ("Ada", "", "King", "ada@example.com") if ",," in header.splitlines()[-1] else None
    row = ",".join(cells or ("Ada", "King", "ada@example.com"))
    assert outcome(f"{header}\n{row},\n") == ["Ada"]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("sep=;\nfirstName;lastName;email", "Ada;King;ada@example.com"),
        ("sep=\t\nfirstName\tlastName\temail", "Ada\tKing\tada@example.com"),
        ("sep=^\nfirstName^lastName^email", "Ada^King^ada@example.com"),
        ("firstName|lastName|email|a, b, c, d, e", "Ada|King|ada@example.com|"),
        ('"a;b;c;d",firstName,lastName,email', '"",Ada,King,ada@example.com'),
    ],
)
def test_the_delimiter_is_named_or_the_one_that_makes_titles(header: str, row: str) -> None:
    layout = Layout(mapping={"a, b, c, d, e": "", "a;b;c;d": ""}) if "b" in header else None
    if layout is not None:
        present = [title for title in layout.mapping if title in header]
        layout = Layout(mapping=dict.fromkeys(present, ""))
    assert outcome(f"{header}\n{row}\n", layout) == ["Ada"]


def test_a_value_in_a_column_without_a_title_is_not_dropped() -> None:
    text = "firstName,,lastName,email\nAda,,King,a@example.com\nBob,x,King,b@example.com\n"
    assert outcome(text) == ["Ada", (2, "row")]


ADELE = "firstName,lastName,email,city\nAd\u00e8le,King,a@example.com,\nBob,King,b@example.com,\n"


@pytest.mark.parametrize(
    ("encoding", "charset"),
    [
        *(("utf-16", None), ("utf-16-le", None), ("utf-16-be", None), ("utf-32", None)),
        *(("utf-8-sig", None), ("cp1252", "windows-1252"), ("latin-1", "ISO-8859-1")),
        *(("cp850", "cp850"), ("utf-16-le", "utf-16le"), ("utf-8-sig", "windows-1252")),
    ],
)
def test_files_are_read_in_the_encoding_that_they_have_or_name(
    encoding: str, charset: str | None
) -> None:
    assert outcome(ADELE.encode(encoding), charset=charset) == ["Ad\u00e8le", "Bob"]


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "iso8859-15", "mac-roman"])
def test_another_encoding_that_is_not_named_is_named_to_its_author(encoding: str) -> None:
    bad, good = read(ADELE.encode(encoding))
    assert bad.errors.keys() == {"firstName"}
    assert "windows-1252 (Latin-1)" in bad.errors["firstName"]
    assert good.lead is not None
    with pytest.raises(HeaderError, match="Latin-1"):
        check_beginning("Pr\u00e9nom\n".encode(encoding), FileFormat.CSV, Layout())
    [line] = read('{"firstName": "Ad\u00e8le"}\n'.encode(encoding), FileFormat.NDJSON)
    assert "Latin-1" in line.errors["row"]


@pytest.mark.parametrize(("encoding", "charset"), [("utf-8", "utf-16"), ("utf-32-be", "utf-32")])
def test_a_file_that_is_not_in_the_wide_encoding_it_names_is_refused(
    encoding: str, charset: str
) -> None:
    with pytest.raises(HeaderError):
        check_beginning(ADELE.encode(encoding), FileFormat.CSV, Layout(), charset=charset)
    [line] = read('{"firstName": "Ada"}'.encode(encoding), FileFormat.NDJSON, charset=charset)
    assert line.errors.keys() == {"row"}


def test_utf16_without_a_mark_is_read_by_its_name() -> None:
    text = "\u0418\u043c\u044f,lastName,email\nAda,King,a@example.com\n".encode("utf-16-le")
    layout = Layout(mapping={"\u0418\u043c\u044f": "firstName"})
    assert outcome(text, layout, charset="utf-16") == ["Ada"]


def test_half_a_character_at_the_end_costs_no_row() -> None:
    assert outcome(ADELE.encode("utf-16") + b"x")[:2] == ["Ad\u00e8le", "Bob"]


@pytest.mark.parametrize("beginning", [b"PK\x03\x04...", b"\xd0\xcf\x11\xe0\xa1\xb1"])
def test_a_workbook_is_told_from_its_export(beginning: bytes) -> None:
    with pytest.raises(PermanentError, match="Is a workbook: save it as CSV"):
        check_beginning(beginning, FileFormat.CSV, Layout())


@pytest.mark.parametrize(
    ("cell", "phone"),
    [
        ('="+447911123456"', "+447911123456"),
        ('"=""+447911123456"""', "+447911123456"),
        ('"=""020 """', None),
        ("'+447911123456", "+447911123456"),
        ("4.47911E+11", None),
        ('"4,47911E+11"', None),
        ("4e+11111", None),
        ('="4.47911E+11"', None),
        ("Y77 Q98-6303", "Y77 Q98-6303"),
        ("1E45 678-90", "1E45 678-90"),
    ],
)
def test_phone_numbers_are_taken_as_they_were_or_refused(cell: str, phone: str | None) -> None:
    [row] = read(f"firstName,lastName,email,phone\nAda,King,a@example.com,{cell}\n")
    assert (row.lead and row.lead.phone) == phone
    assert row.errors.keys() == (set() if phone else {"phone"})


def test_columns_with_values_that_are_not_imported_are_named() -> None:
    header = "firstName,lastName,email,Status,summary,Notes,id\n"
    rows = "Ada,K,a@example.com,banana,,x,\nBob,K,b@example.com,,,y,7\n"
    layout = Layout(mapping={"Notes": ""})
    assert [set(row.passed_over) for row in read(header + rows, layout=layout)] == [
        {"status"},
        {"id"},
    ]
    line = '{"firstName": "A", "lastName": "K", "email": "a@b.de", "version": 7, "summary": null}'
    [row] = read(line, FileFormat.NDJSON)
    assert set(row.passed_over) == {"version"}


def test_a_line_that_is_too_long_is_not_held() -> None:
    long = "x" * (3 * LONGEST_LINE)
    assert [len(line) for line in lines_of(io.StringIO(f"{long}\nx\n"))] == [LONGEST_LINE + 1, 2]
    assert [row.number for row in read(f"{long}\n[]", FileFormat.NDJSON)] == [1, 2]
    assert outcome(f"{HEADER}{long}\n{BOB}") == [(1, "row"), "Bob"]
    with pytest.raises(PermanentError, match="The header is too long") as raised:
        read(f"{long}\n")
    assert raised.value.code == "not-csv"


def test_an_upsert_needs_an_external_id_and_knows_what_is_given() -> None:
    assert problems(HEADER, UPSERT) == {"externalId": "Is missing"}
    text = (
        "externalId,firstName,lastName,email,city\n"
        "7e2d1e6c-2f5f-4e0b-9c55-8f2f3a0f6b1e,Ada,King,ada@example.com,\n,Ada,King,a@example.com,\n"
    )
    good, bad = read(text, layout=Layout(mode=ImportMode.UPSERT))
    assert isinstance(good.lead, GivenLead)
    assert good.lead.given().keys() == {"external_id", "first_name", "last_name", "email"}
    assert bad.errors == {"externalId": "Is required"}


def test_an_upsert_knows_a_lead_without_an_external_id_by_its_id() -> None:
    lead_id = "0192f4c4-7a10-7d0e-8a3c-5b2f90c1d4e7"
    rows = f"{lead_id},,Ada,K,a@example.com\n7,,Ada,K,a@example.com\n,,Ada,K,a@example.com\n"
    first, *others = read(f"id,externalId,firstName,lastName,email\n{rows}", layout=UPSERT)
    assert (str(first.lead_id), set(first.passed_over)) == (lead_id, set())
    assert [set(row.errors) for row in others] == [{"id"}, {"externalId"}]
    [created] = read(f"id,firstName,lastName,email\n{lead_id},Ada,K,a@example.com\n")
    assert (created.lead_id, set(created.passed_over)) == (None, {"id"})


def test_errors_do_not_repeat_what_they_are_about() -> None:
    text = "externalId,firstName,lastName,email\nzebra,zebra" + "z" * 60 + ",,zebra\n"
    [row] = read(text)
    assert set(row.errors) == {"externalId", "firstName", "lastName", "email"}
    assert not [message for message in row.errors.values() if "z" in message.lower()]


def test_bad_rows_say_why() -> None:
    rows = read("firstName,lastName,email\nAda,King,nobody\nAda,King\n\n,,\n")
    assert [(row.number, row.lead, dict(row.errors)) for row in rows] == [
        (1, None, {"email": "Email must be a valid email address"}),
        (2, None, {"row": "Has 2 cells, the header has 3", "email": "Is required"}),
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
