"""What callers send, read as leniently as Go's JSON decoder does, and checked as strictly."""

import re
from datetime import timedelta
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from devstack.standins.supabase_auth.errors import AuthError, WeakPasswordError, invalid
from devstack.standins.supabase_auth.settings import SupabaseAuthSettings

MAX_EMAIL_LENGTH = 255
# bcrypt, which the service hashes with, looks at no more.
MAX_PASSWORD_BYTES = 72
_EMAIL = re.compile(
    r"[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
    r"(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)+"
)


class Parameters(BaseModel):
    """A request body: unknown names are ignored, null is as good as absent."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class Credentials(Parameters):
    """What signs up or logs in."""

    email: str = ""
    phone: str = ""
    password: str = ""
    data: dict[str, Any] = {}
    gotrue_meta_security: dict[str, Any] = {}


class LinkParameters(Parameters):
    """What an administrator makes the link of a confirmation e-mail from."""

    type: str = ""
    email: str = ""
    password: str = ""
    data: dict[str, Any] = {}


class RefreshGrant(Parameters):
    """What a session is continued with."""

    refresh_token: str = ""


class NewUser(Parameters):
    """What an administrator creates a user from."""

    email: str = ""
    phone: str = ""
    password: str = ""
    email_confirm: bool = False
    user_metadata: dict[str, Any] = {}
    app_metadata: dict[str, Any] = {}


class UserChanges(Parameters):
    """What an administrator changes of a user."""

    password: str | None = None
    email_confirm: bool = False
    ban_duration: str = ""


ParametersT = TypeVar("ParametersT", bound=Parameters)


async def read(request: web.Request, kind: type[ParametersT]) -> ParametersT:
    """Raises `AuthError` for a body that is no JSON object of this kind."""
    try:
        body = await request.json()
        present = {name: value for name, value in body.items() if value is not None}
        return kind.model_validate(present)
    except (ValueError, AttributeError, ValidationError) as error:
        raise AuthError(
            400, "bad_json", f"Could not parse request body as JSON: {error}"
        ) from error


def check_email(email: str) -> str:
    """The address in the lower case it is stored in."""
    if not email:
        raise invalid("An email address is required")
    if len(email) > MAX_EMAIL_LENGTH:
        raise invalid("An email address is too long")
    if _EMAIL.fullmatch(email) is None:
        raise invalid("Unable to validate email address: invalid format")
    return email.lower()


def check_password(password: str, settings: SupabaseAuthSettings) -> None:
    if not password:
        raise invalid("Signup requires a valid password")
    check_password_length(password)
    least, required = settings.password_min_length, settings.password_required_characters
    reasons: dict[str, str] = {}
    if len(password.encode()) < least:
        reasons["length"] = f"Password should be at least {least} characters."
    if any(not set(characters) & set(password) for characters in required):
        reasons["characters"] = (
            f"Password should contain at least one character of each: {', '.join(required)}."
        )
    if reasons:
        raise WeakPasswordError(" ".join(reasons.values()), list(reasons))


def read_duration(text: str) -> timedelta:
    """A time span as Go writes it, such as `24h` or `1h30m`; `none` is none."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|m|s)", text)
    if text != "none" and "".join(number + unit for number, unit in parts) != text:
        raise invalid(f'invalid format for ban duration: time: invalid duration "{text}"')
    seconds = {"h": 3600, "m": 60, "s": 1}
    return timedelta(seconds=sum(float(number) * seconds[unit] for number, unit in parts))


def check_password_length(password: str) -> None:
    if len(password.encode()) > MAX_PASSWORD_BYTES:
        raise invalid(f"Password cannot be longer than {MAX_PASSWORD_BYTES} characters")
