"""The fields of a lead that clients and sources may set, and their limits."""

import re
import unicodedata
from typing import Annotated, Any
from uuid import UUID

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError
from yarl import URL

from shared.events.data import WireModel

# Unicode's category Cc, and surrogates without their other half.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

# The same for readers of a schema.
TEXT: JsonDict = {"pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"}

PICTURE_MAX_LENGTH = 255
EMAIL_MAX_LENGTH = 100


def _clean_text(value: Any) -> Any:
    """Normalise to NFC and trim; refuse what no name, phone or city holds."""
    if not isinstance(value, str):
        return value
    if _CONTROL.search(value):
        raise PydanticCustomError("control_character", "Control characters are not allowed")
    return (value if value.isascii() else unicodedata.normalize("NFC", value)).strip()


def _check_email(value: str) -> str:
    try:
        return validate_email(value, check_deliverability=False, test_environment=True).normalized
    except EmailNotValidError as error:
        raise PydanticCustomError("email", "Email must be a valid email address") from error


def _check_picture(value: str) -> str:
    try:
        url = URL(value)
    except ValueError as error:
        raise PydanticCustomError("url", "Picture must be a valid URL") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise PydanticCustomError("url", "Picture must be an http or https URL")
    if any(character.isspace() for character in value):
        raise PydanticCustomError("url", "Picture must be a valid URL")
    return value


Cleaned = BeforeValidator(_clean_text)
Name = Annotated[str, Cleaned, Field(min_length=1, max_length=50, json_schema_extra=TEXT)]
Place = Annotated[str, Cleaned, Field(min_length=1, max_length=50, json_schema_extra=TEXT)]
Phone = Annotated[str, Cleaned, Field(min_length=7, max_length=20, json_schema_extra=TEXT)]
DateOfBirth = Annotated[str, Cleaned, Field(min_length=4, max_length=50, json_schema_extra=TEXT)]
Email = Annotated[
    str,
    Cleaned,
    Field(min_length=3, max_length=EMAIL_MAX_LENGTH, json_schema_extra={"format": "email"}),
    AfterValidator(_check_email),
]
Picture = Annotated[
    str,
    Cleaned,
    Field(
        min_length=1,
        max_length=PICTURE_MAX_LENGTH,
        json_schema_extra={"format": "uri", "pattern": "^https?://"},
    ),
    AfterValidator(_check_picture),
]


class LeadFields(WireModel):
    """A lead as its author gives it: a REST client, an import or an external source."""

    external_id: UUID | None = None
    first_name: Name
    last_name: Name
    email: Email
    phone: Phone | None = None
    cell: Phone | None = None
    dob: DateOfBirth | None = None
    city: Place | None = None
    state: Place | None = None
    country: Place | None = None
    picture: Picture | None = None
