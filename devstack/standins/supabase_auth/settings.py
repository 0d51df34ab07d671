"""How the Supabase Auth stand-in is set; the defaults are the hosted platform's."""

from datetime import timedelta
from pathlib import Path

from pydantic import Field, SecretStr

from devstack.standins.serving import Faults, ListenSettings
from shared.settings import Duration


class SupabaseAuthSettings(ListenSettings):
    """The environment of the Supabase Auth stand-in.

    With a `jwt_secret` tokens and API keys are HS256, as in projects from before asymmetric keys.
    `origin` is what the issuer begins with; unset, it is the address the caller used.
    """

    data_dir: Path
    origin: str | None = None
    jwt_secret: SecretStr | None = Field(default=None, min_length=32)
    jwt_exp: Duration = timedelta(hours=1)
    refresh_token_reuse_interval: Duration = timedelta(seconds=10)
    password_min_length: int = Field(default=6, ge=1, le=72)
    autoconfirm: bool = True
    signup_enabled: bool = True
    faults: Faults = Faults()
