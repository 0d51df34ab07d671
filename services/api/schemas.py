"""What clients send, and how a wrong field is explained to them."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from services.api.problems import validation_problem
from shared.events.lead_fields import Email, LeadFields

# bcrypt, which Supabase hashes with, reads no further.
PASSWORD_MAX_BYTES = 72

# A request can be wrong in more ways, and have longer keys, than anyone will read.
MOST_ERRORS = 50
LONGEST_NAME = 60

# What pydantic says in its own terms, said in the client's.
MESSAGES = {
    "missing": "Is required",
    "extra_forbidden": "Is not a field that can be set",
    "string_type": "Must be a string",
    "string_too_short": "Must have at least {min_length} characters",
    "too_short": "Must have at least {min_length} characters",
    "string_too_long": "Must have at most {max_length} characters",
    "too_long": "Must have at most {max_length} characters",
    "uuid_parsing": "Must be a UUID",
    "uuid_type": "Must be a UUID",
}

Model = TypeVar("Model", bound=BaseModel)


class LeadInput(LeadFields):
    """A lead as a client gives it: under the JSON names only, and nothing else."""

    model_config = ConfigDict(extra="forbid", validate_by_name=False)


class Credentials(BaseModel):
    """The body of a log-in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    email: Email
    password: Annotated[SecretStr, Field(min_length=1, max_length=1000)]


class RefreshToken(BaseModel):
    """The body of a refresh."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    refresh_token: Annotated[SecretStr, Field(min_length=1, max_length=1000)]


class NewAccount(Credentials):
    """The body of a sign-up."""

    # Checked by `check_new_password`, since the least length is a setting.
    password: Annotated[
        SecretStr,
        Field(
            description=f"At most {PASSWORD_MAX_BYTES} bytes in UTF-8. A deployment may ask for "
            "another least length",
            json_schema_extra={"minLength": 8, "maxLength": PASSWORD_MAX_BYTES},
        ),
    ]


def parse(model: type[Model], value: Mapping[str, Any]) -> Model:
    """Validate a JSON object; raises `Problem` 400 that names every wrong field."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise validation_problem(_explain(error)) from None


def check_new_password(password: str, *, min_length: int) -> None:
    """Raise `Problem` 400 for a password that is too short, or longer than gets hashed."""
    if len(password) < min_length:
        raise validation_problem({"password": f"Must have at least {min_length} characters"})
    if len(password.encode(errors="replace")) > PASSWORD_MAX_BYTES:
        raise validation_problem({"password": f"Must have at most {PASSWORD_MAX_BYTES} bytes"})
    if not password.isprintable():
        raise validation_problem({"password": "Control characters are not allowed"})


def _explain(error: ValidationError) -> dict[str, str]:
    details = error.errors(include_url=False, include_input=False)
    return {_name(detail): _message(detail) for detail in details[:MOST_ERRORS]}


def _name(detail: ErrorDetails) -> str:
    return ".".join(str(part)[:LONGEST_NAME] for part in detail["loc"]) or "body"


def _message(detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    if context.get("min_length") == 1:
        return "Must not be empty"
    words = MESSAGES.get(detail["type"])
    return detail["msg"] if words is None else words.format_map(context)
