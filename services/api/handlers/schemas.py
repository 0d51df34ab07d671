"""What clients send."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, SecretStr, SkipValidation

from services.api.web.problems import validation_problem
from shared.events.lead_fields import Email, GivenLead, LeadChanges, LeadFields, NotClearable

# bcrypt, which Supabase hashes with, reads no further.
PASSWORD_MAX_BYTES = 72

# Rows in a batch.
MOST_ROWS = 500


class LeadInput(LeadFields):
    """A lead as a client gives it: under the JSON names only, and nothing else."""

    model_config = ConfigDict(extra="forbid", validate_by_name=False)


def _without_defaults(schema: dict[str, Any]) -> None:
    """Take the defaults out of a schema: what is left out stays as it is."""
    for field in schema["properties"].values():
        field.pop("default", None)


_GIVEN = ConfigDict(extra="forbid", validate_by_name=False, json_schema_extra=_without_defaults)


class LeadPatch(LeadChanges):
    """What is to become of a lead (RFC 7396): null clears a field, one left out stays as it is."""

    model_config = _GIVEN


class LeadPut(GivenLead):
    """A lead under the externalId in the address. Optional fields left out stay as they are."""

    model_config = _GIVEN


class LeadUpsert(GivenLead):
    """A lead under its externalId. Optional fields left out stay as they are."""

    model_config = _GIVEN

    # Required here, where it is the lead's key.
    external_id: Annotated[UUID | None, *NotClearable]  # pyright: ignore[reportGeneralTypeIssues]


class LeadBatch(BaseModel):
    """Leads to be created, or with `upsert` changed where their externalId is known.

    Each is judged by itself, so anything may stand in its place.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    leads: Annotated[
        list[SkipValidation[LeadInput | Any]], Field(min_length=1, max_length=MOST_ROWS)
    ]
    mode: Literal["create", "upsert"] = "create"


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


def check_new_password(password: str, *, min_length: int) -> None:
    """Raise `Problem` 400 for a password that is too short, or longer than gets hashed."""
    if len(password) < min_length:
        raise validation_problem({"password": f"Must have at least {min_length} characters"})
    if len(password.encode(errors="replace")) > PASSWORD_MAX_BYTES:
        raise validation_problem({"password": f"Must have at most {PASSWORD_MAX_BYTES} bytes"})
    if not password.isprintable():
        raise validation_problem({"password": "Control characters are not allowed"})
