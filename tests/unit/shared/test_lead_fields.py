"""What a lead may hold, and when two leads are the same person."""

from typing import Any

import orjson
import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.domain.lead import email_key
from shared.events.data import LeadCreated
from shared.events.lead_fields import AS_STORED, EMAIL_MAX_LENGTH, LeadFields
from shared.streams.codec import decode, encode
from tests.support.builders import lead_created

VALID: dict[str, Any] = {"firstName": "Ada", "lastName": "Lovelace", "email": "ada@example.com"}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"phone": "Y77 Q98-6303", "cell": "(067) T38-6980"},
        {"firstName": "A", "lastName": "Ž"},
        {"externalId": "5788ef90-920b-403f-ac44-7b679c7979d3", "dob": "1984"},
        {"phone": None, "city": None, "picture": None, "externalId": None},
        {"picture": "https://example.com/a?b=c#d"},
        {"email": "a+tag.x@bücher.example"},
        {"firstName": "x" * 50, "phone": "1" * 20, "dob": "1" * 50},
    ],
)
def test_real_input_is_accepted(fields: dict[str, Any]) -> None:
    LeadFields.model_validate(VALID | fields)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("firstName", ""),
        ("firstName", "   "),
        ("firstName", "x" * 51),
        ("firstName", "a\x00b"),
        ("firstName", "a\nb"),
        ("firstName", "\ud800"),
        ("firstName", 7),
        *(("firstName", name) for name in ("\u200b", "\u3164", "\u2800", "\U000e0041\U000e007f")),
        *(("lastName", name) for name in ("\u115f\u1160", " \u2060\ufeff ", "\u0301", "\u200d")),
        ("city", "\u202e\u202c"),
        ("phone", "4.47911E+11"),
        ("cell", "4,4e+012"),
        ("phone", "447911E+06"),
        ("email", "nobody"),
        ("email", "a@b@c.example"),
        ("email", "a" * 92 + "@example.com"),
        ("phone", "123456"),
        ("phone", "1" * 21),
        ("dob", "198"),
        ("externalId", "not-a-uuid"),
        ("picture", "javascript:alert(1)"),
        ("picture", "data:text/html,hi"),
        ("picture", "//example.com/a"),
        ("picture", "https://"),
        ("picture", "https://example.com/a b"),
        ("picture", "https://example.com/" + "a" * 250),
    ],
)
def test_what_no_lead_holds_is_refused_by_field(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as refusal:
        LeadFields.model_validate(VALID | {field: value})
    assert [problem["loc"][0] for problem in refusal.value.errors()] == [field]


def test_text_is_trimmed_and_normalised() -> None:
    lead = LeadFields.model_validate(VALID | {"firstName": "  Zoe\u0308 "})
    assert lead.first_name == "Zo\u00eb"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("A\u202eda\u202c", "Ada"),
        ("\u200bAda\ufeff", "Ada"),
        ("\u2066Ad\u00ada\u2069 \u200f", "Ada"),
        ("A\U000e0064da\u3164", "Ada"),
        ("\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u200c\u062e"),
        ("\u845b\U000e0100", "\u845b\U000e0100"),
        ("\U0001f469\u200d\U0001f4bb", "\U0001f469\u200d\U0001f4bb"),
    ],
)
def test_what_is_not_to_be_seen_is_left_out(given: str, kept: str) -> None:
    assert LeadFields.model_validate(VALID | {"firstName": given}).first_name == kept


@given(
    st.text(st.sampled_from(" \u3000e\u00e9\u0301\u0327\u200b\u200d\u202e\u2060\ufeff\U000e0041"))
)
def test_what_is_kept_of_a_text_stays_as_it_is(text: str) -> None:
    """Else an answer would have another name than the lead that is stored."""
    try:
        kept = LeadFields.model_validate(VALID | {"firstName": text}).first_name
    except ValidationError:
        return
    assert LeadFields.model_validate(VALID | {"firstName": kept}).first_name == kept
    assert (
        LeadFields.model_validate(VALID | {"firstName": kept}, context=AS_STORED).first_name == kept
    )


@pytest.mark.parametrize(
    "fields", [{"lastName": "\u200b"}, {"firstName": "a\u202e"}, {"phone": "4.47911E+11"}]
)
def test_events_from_before_keep_what_they_were_accepted_with(fields: dict[str, Any]) -> None:
    entry = {
        str(name).encode(): str(value).encode() for name, value in encode(lead_created()).items()
    }
    data = orjson.loads(entry[b"data"])
    data["lead"] |= fields
    decoded = decode(entry | {b"data": orjson.dumps(data)})
    [(name, value)] = fields.items()
    assert isinstance(decoded.data, LeadCreated)
    assert decoded.data.lead.model_dump(by_alias=True)[name] == value


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Ada@Example.com", "ada@example.COM", True),
        ("ada@b\u00fccher.example", "ada@xn--bcher-kva.example", True),
        ("Zo\u00eb@example.com", "Zoe\u0308@example.com", True),
        ("ada+crm@example.com", "ada@example.com", False),
        ("a.da@example.com", "ada@example.com", False),
        ("ada@example.com", "ada@example.org", False),
    ],
)
def test_who_is_the_same_person(one: str, other: str, *, same: bool) -> None:
    assert (email_key(one) == email_key(other)) is same


@given(
    local=st.one_of(
        st.text("aZ09._+-' @é", max_size=70), st.emails().map(lambda it: it.split("@")[0])
    ),
    domain=st.sampled_from(
        [
            "EXAMPLE.com",
            "a-b.example",
            "corp.local",
            "a..b",
            "-a.de",
            "bücher.de",
            "xn--a.de",
            "1.2",
            "",
        ]
    ),
)
def test_an_address_is_checked_as_the_library_checks_it(local: str, domain: str) -> None:
    """Most are not given to it whole."""
    address = f"{local}@{domain}".strip()
    try:
        expected = validate_email(address, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        with pytest.raises(ValidationError):
            LeadFields.model_validate(VALID | {"email": address})
    else:
        if len(address) <= EMAIL_MAX_LENGTH:
            assert (
                LeadFields.model_validate(VALID | {"email": address}).email == expected.normalized
            )


def test_an_address_is_not_longer_than_allowed_once_it_is_normalised() -> None:
    """Else the API would accept what the syncer cannot store."""
    address = "ada@" + "\u33a2." * 40 + "example"
    assert len(address) <= EMAIL_MAX_LENGTH
    with pytest.raises(ValidationError) as refusal:
        LeadFields.model_validate(VALID | {"email": address})
    [problem] = refusal.value.errors()
    assert (problem["loc"], problem["type"]) == (("email",), "string_too_long")


@given(st.emails())
def test_a_key_is_its_own_key(email: str) -> None:
    assert email_key(email_key(email)) == email_key(email)
