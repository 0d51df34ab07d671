"""How the Supabase Auth stand-in is set; the defaults are the hosted platform's."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, SecretStr

from devstack.standins.serving import Faults, ListenSettings
from shared.settings import Duration

Hook = Literal["before-user-created", "custom-access-token"]


class HookRefusal(BaseModel):
    """What a hook of the project says no with; a hook that fails has a code of its own."""

    status: int = Field(default=400, ge=400, le=599)
    code: str = "unknown"
    message: str = "Not welcome here"


class SupabaseAuthSettings(ListenSettings):
    """The environment of the Supabase Auth stand-in.

    With a `jwt_secret` tokens and API keys are HS256, as in projects from before asymmetric keys.
    `origin` is what the issuer begins with; unset, it is the address the caller used.
    `password_cost` is scrypt's N, a power of two. The default takes 16 MiB and some 40 ms a hash,
    the lower of the settings in RFC 7914. Each hash keeps its own.
    A password needs a character of each of `password_required_characters`. `captcha_token` is what
    solving the captcha gives; without it there is none. `rate_limit` log-ins, refreshes and
    sign-ups are let through in five minutes for an address.
    """

    data_dir: Path
    origin: str | None = None
    jwt_secret: SecretStr | None = Field(default=None, min_length=32)
    jwt_exp: Duration = timedelta(hours=1)
    refresh_token_reuse_interval: Duration = timedelta(seconds=10)
    password_cost: int = Field(default=2**14, ge=2)
    password_min_length: int = Field(default=6, ge=1, le=72)
    password_required_characters: tuple[str, ...] = ()
    autoconfirm: bool = True
    signup_enabled: bool = True
    email_enabled: bool = True
    captcha_token: str | None = None
    rate_limit: int | None = Field(default=None, ge=1)
    hooks: Mapping[Hook, HookRefusal] = {}
    faults: Faults = Faults()
