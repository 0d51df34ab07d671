"""What the API reads from its environment."""

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode
from yarl import URL

from shared.settings import (
    CacheSettings,
    Delay,
    Duration,
    ObservabilitySettings,
    PostgresSettings,
    ProjectSettings,
    ReplicaSettings,
    SettingsGroup,
    StreamsSettings,
    load,
)

# What an `.env` copied from the example holds until a key is set.
PLACEHOLDER_KEYS = frozenset({"api-key", "apikey", "your-api-key", "changeme"})


def _split(value: Any) -> Any:
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return value


@dataclass(frozen=True, slots=True)
class Rate:
    """So many calls per span of time: written `calls/seconds` in the environment."""

    calls: int
    span: timedelta


def _read_rate(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"([1-9]\d{0,8})/([1-9]\d{0,5})", value.strip(), re.ASCII)
    if match is None:
        raise ValueError("must be calls/seconds, such as 600/60")
    return Rate(int(match[1]), timedelta(seconds=int(match[2])))


def _read_rate_or_off(value: Any) -> Any:
    return None if isinstance(value, str) and value.strip() == "off" else _read_rate(value)


def _check_origin(value: str) -> str:
    """Return the origin as browsers send it: no path, the host in lower case."""
    try:
        url = URL(value)
        origin = str(url.origin())
    except ValueError as error:
        raise ValueError(f"{value!r} is not an origin such as https://app.example.com") from error
    is_origin = url.scheme in {"http", "https"} and url.path == "/" and not url.query_string
    if not is_origin or "*" in value:  # browsers send no pattern, and all are not to be let in
        raise ValueError(f"{value!r} is not an origin such as https://app.example.com")
    return origin


Origin = Annotated[str, AfterValidator(_check_origin)]


class HttpSettings(SettingsGroup):
    """Where the API listens and how long its answers may take."""

    port: int = Field(default=1234, ge=0, le=65535)
    api_host: str = "0.0.0.0"
    reuse_port: bool = False
    cors_accepted_origins: Annotated[frozenset[Origin], NoDecode, BeforeValidator(_split)] = (
        frozenset()
    )
    api_key: SecretStr | None = None
    # A write or a summary that takes longer is answered 202, and goes on; so is a row of a batch.
    create_timeout: Duration = timedelta(seconds=2)
    summary_timeout: Duration = timedelta(seconds=30)
    batch_timeout: Duration = timedelta(seconds=10)
    # A client learns within two seconds that Redis or PostgreSQL is down.
    publish_timeout: Duration = timedelta(seconds=1.5)
    read_timeout: Duration = timedelta(seconds=1.8)
    body_timeout: Duration = timedelta(seconds=10)
    request_timeout: Duration = timedelta(seconds=45)
    # How long a connection may be idle, and a request's head may take. Longer than proxies keep
    # theirs: 60 s (nginx, AWS), 90 s (Go, Traefik), 120 s (Caddy).
    keepalive_timeout: Duration = timedelta(seconds=130)
    # What clients of the first version of this API may rely on.
    list_default_limit: int = Field(default=100, ge=1, le=10_000)
    unknown_fields: Literal["refuse", "ignore"] = "refuse"
    import_max_bytes: int = Field(default=64 << 20, ge=1)
    # For load balancers that ask `/health/serving`: how long to go on until they have let go.
    shutdown_delay: Delay = timedelta(0)
    shutdown_deadline: Duration = timedelta(seconds=8)

    @property
    def operator_key(self) -> str | None:
        """The key of the operators' routes; a placeholder opens nothing."""
        if self.api_key is None:
            return None
        key = self.api_key.get_secret_value().strip()
        return None if not key or key.lower() in PLACEHOLDER_KEYS else key


class AuthSettings(ProjectSettings):
    """The Supabase project whose users may call the API, and how they sign up."""

    signup_mode: Literal["open", "closed"] = "open"
    signup_confirmation: Literal["auto", "email"] = "auto"
    password_min_length: int = Field(default=8, ge=1, le=72)
    auth_timeout: Duration = timedelta(seconds=5)


class LimitSettings(SettingsGroup):
    """How often callers may call. `rate_limit` "off" switches every limit off.

    `forwarded_hops` is how many proxies there are in front of the API: so many addresses of
    X-Forwarded-For are believed.
    """

    rate_limit: Annotated[Rate | None, NoDecode, BeforeValidator(_read_rate_or_off)] = Rate(
        3000, timedelta(seconds=60)
    )
    rate_limit_address: Annotated[Rate, NoDecode, BeforeValidator(_read_rate)] = Rate(
        600, timedelta(seconds=60)
    )
    login_limit: Annotated[Rate, NoDecode, BeforeValidator(_read_rate)] = Rate(
        10, timedelta(seconds=900)
    )
    login_limit_address: Annotated[Rate, NoDecode, BeforeValidator(_read_rate)] = Rate(
        100, timedelta(seconds=900)
    )
    forwarded_hops: int = Field(default=0, ge=0, le=16)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """Everything the API reads."""

    http: HttpSettings
    auth: AuthSettings
    limits: LimitSettings
    postgres: PostgresSettings
    streams: StreamsSettings
    cache: CacheSettings
    observability: ObservabilitySettings
    replica: ReplicaSettings = field(default_factory=ReplicaSettings)

    @classmethod
    def load(cls) -> Self:
        """Read the environment; raises `SettingsError`."""
        return cls(
            http=load(HttpSettings),
            auth=load(AuthSettings),
            limits=load(LimitSettings),
            postgres=load(PostgresSettings),
            replica=load(ReplicaSettings),
            streams=load(StreamsSettings),
            cache=load(CacheSettings),
            observability=load(ObservabilitySettings),
        )
