"""The one list of a lead's fields that clients and sources may set, and their limits."""

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any, TypeVar, get_type_hints
from uuid import UUID

from email_validator import EmailNotValidError, ValidatedEmail, validate_email
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    create_model,
    model_serializer,
)
from pydantic.config import JsonDict
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, PydanticKnownError
from yarl import URL

from shared.domain.lead import LeadStatus
from shared.events.envelope import WireModel

# Some of a lead's fields: one that is left out stays as it is, one that is null is cleared.


def _refuse_null(value: Any) -> Any:
    if value is None:
        raise PydanticCustomError("not_clearable", "Cannot be cleared")
    return value


# The context in which events are read that were accepted before: by the rules of their time.
AS_STORED = {"as": "stored"}


class _WithoutNull:
    """Says in a schema what is said of the values: null is none of them."""

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        value, _null = schema.pop("anyOf")
        return {**value, **schema}


# Of an optional field: it may be left out, which is None in Python, and never be null.
NotClearable = BeforeValidator(_refuse_null), _WithoutNull()


class GivenFields(WireModel):
    """Only what was given is on the wire; null is given too, and clears the field."""

    def given(self) -> dict[str, Any]:
        """Return the given fields by their names in Python."""
        return {name: getattr(self, name) for name in sorted(self.model_fields_set)}

    @model_serializer(mode="wrap")
    def _without_the_rest(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        names = self.model_fields_set.union(fields[name].alias for name in self.model_fields_set)
        everything: dict[str, Any] = serialize(self)
        return {key: everything[key] for key in everything if key in names}


def _clean_text(value: Any, info: ValidationInfo) -> Any:
    """Normalise to NFC and trim; refuse what no name, phone or city holds.

    What is not to be seen is left out: it comes with what is copied from elsewhere, and may show
    text in another order than it has. What then has nothing to be seen is empty.
    """
    if not isinstance(value, str):
        return value
    if value.isascii() and value.isprintable():  # nearly every value
        return value.strip()
    if _CONTROL.search(value):
        raise PydanticCustomError("control_character", "Control characters are not allowed")
    if value.isascii():
        return value.strip()
    if info.context is AS_STORED:
        return unicodedata.normalize("NFC", value).strip()
    # Normalised last: what was left out may have stood between a letter and its accent.
    text = unicodedata.normalize("NFC", INVISIBLE.sub("", value)).strip()
    return text if any(map(_is_visible, text)) else ""


def _is_visible(character: str) -> bool:
    # Marks and joiners are seen only with what they stand on or between.
    return unicodedata.category(character)[0] in "LNPS"


Cleaned = BeforeValidator(_clean_text)

# The same for readers of a schema.
TEXT: JsonDict = {"pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"}

# Limits stand next to `str`, to be checked in C. Cleaning comes first all the same.
DateOfBirth = Annotated[str, Field(min_length=4, max_length=50, json_schema_extra=TEXT), Cleaned]
EMAIL_MAX_LENGTH = 100


def _check_email(value: str) -> str:
    local, _, domain = value.rpartition("@")
    try:
        if _is_plain(local) and domain.isascii():
            return f"{local}@{_check_domain(domain)}"
        normalized = _validate_email(value).normalized
    except EmailNotValidError as error:
        raise PydanticCustomError("email", "Email must be a valid email address") from error
    # One character of a domain may stand for several, such as \u33a2 for km2 (UTS #46).
    if len(normalized) > EMAIL_MAX_LENGTH:
        raise PydanticKnownError("string_too_long", {"max_length": EMAIL_MAX_LENGTH})
    return normalized


# The local part of most addresses, valid as it stands. What is left to check is the domain, and
# many leads share one: to check each address whole takes an eighth of the time of a create.
_is_plain = re.compile(r"(?=.{1,64}\Z)[a-z0-9_+-]+(?:\.[a-z0-9_+-]+)*").fullmatch


@lru_cache(maxsize=10_000)
def _check_domain(domain: str) -> str:
    return _validate_email(f"a@{domain}").domain


def _validate_email(value: str) -> ValidatedEmail:
    return validate_email(value, check_deliverability=False, test_environment=True)


Email = Annotated[
    str,
    Field(min_length=3, max_length=EMAIL_MAX_LENGTH, json_schema_extra={"format": "email"}),
    Cleaned,
    AfterValidator(_check_email),
]
Name = Annotated[str, Field(min_length=1, max_length=50, json_schema_extra=TEXT), Cleaned]


def _check_phone(value: str, info: ValidationInfo) -> str:
    if info.context is not AS_STORED and _ROUNDED.fullmatch(value):
        raise PydanticCustomError(
            "rounded",
            "Is a number that a spreadsheet has rounded, and lacks digits: format it as text there",
        )
    return value


Phone = Annotated[
    str,
    Field(min_length=7, max_length=20, json_schema_extra=TEXT),
    Cleaned,
    AfterValidator(_check_phone),
]

PICTURE_MAX_LENGTH = 255


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


Picture = Annotated[
    str,
    Field(
        min_length=1,
        max_length=PICTURE_MAX_LENGTH,
        json_schema_extra={"format": "uri", "pattern": "^https?://"},
    ),
    Cleaned,
    AfterValidator(_check_picture),
]
Place = Annotated[str, Field(min_length=1, max_length=50, json_schema_extra=TEXT), Cleaned]


class LeadFields(WireModel):
    """A lead as its author gives it: a REST client, an import or an external source."""

    # The one list of the fields that can be set. Events, statements, files, the cache's prefix and
    # what clients may send derive from it. A new field must have a default, since events from
    # before do not carry it. (A comment, since the docstring is part of the published documents.)

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


class GivenLead(LeadFields, GivenFields):
    """A whole lead, of whose optional fields some may not be known."""


Model = TypeVar("Model", bound=WireModel)


def _optional(fields: type[WireModel]) -> Callable[[type[Model]], type[Model]]:
    """Give a model another one's fields, all of them optional; required ones cannot be null."""

    def extended(model: type[Model]) -> type[Model]:
        definitions: dict[str, Any] = {}
        hints = get_type_hints(fields, include_extras=True)
        for name, field in fields.model_fields.items():
            hint = hints[name]
            kind = Annotated[hint | None, *NotClearable] if field.is_required() else hint
            definitions[name] = (kind, None)
        return create_model(
            model.__name__,
            __base__=model,
            __module__=model.__module__,
            __doc__=model.__doc__,
            **definitions,
        )

    return extended


@_optional(LeadFields)
class FieldChanges(GivenFields):
    """What is to become of the fields in the list."""


class LeadChanges(FieldChanges):
    """What is to become of a lead's fields. Those that every lead has cannot be cleared."""

    status: Annotated[LeadStatus | None, *NotClearable] = None


# The names in a lead's JSON, as `leads.lead_json` makes it, and the columns of a CSV file.
DOCUMENT_NAMES = (
    "id",
    *(str(field.alias) for field in LeadFields.model_fields.values()),
    "summary",
    "nextAction",
    "summaryStale",
    "status",
    "source",
    "createdBy",
    "createdAt",
    "updatedAt",
    "version",
)


# Unicode's category Cc, and surrogates without their other half.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

# 4.47911E+11 and, with the comma of other countries, 4,47911E+11.
_ROUNDED = re.compile(r"[+-]?(?:\d+E\+|\d+[.,]\d+E\+?)\d+", re.IGNORECASE)

# Unicode's Default_Ignorable_Code_Point without the joiners and variation selectors that some
# scripts and emoji need, and the one blank that counts as a symbol (Braille's).
# https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt
INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\u2800\u3164\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff]"
)
