"""Settings groups that more than one process reads, and how any group is loaded.

Each field's upper-case name is the environment variable that sets it; of a secret, NAME_FILE
names a file that holds it, or none when that is empty. A `.env` file in the working directory is
read as well; `ENV_FILE` names another one, which has to be there, or none when empty.
"""

import os
import re
from collections import ChainMap
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, cast, get_args
from urllib.parse import quote

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from yarl import URL

from shared.connection_strings import (
    PostgresAddress,
    host_in_url,
    normalized_redis_url,
    parse_postgres_address,
)


def _from_seconds(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return timedelta(seconds=float(value))
        except (ValueError, OverflowError):  # no number, or more than a time span may be
            return value
    return value


Duration = Annotated[timedelta, BeforeValidator(_from_seconds), Field(gt=timedelta(0))]
"""A time span: seconds in the environment, a `timedelta` in the code."""

Delay = Annotated[timedelta, BeforeValidator(_from_seconds), Field(ge=timedelta(0))]
"""A time span that may be none at all."""


# How a process ends whose settings are wrong.
EXIT_MISCONFIGURED = 2


class SettingsError(Exception):
    """The environment does not hold what a service needs; the message names each variable."""


class SecretFiles(PydanticBaseSettingsSource):
    """Secrets out of the files that NAME_FILE names, such as those that Docker mounts."""

    def __init__(self, settings: type[BaseSettings], sources: Sequence[EnvSettingsSource]) -> None:
        super().__init__(settings)
        # The first wins, as it does elsewhere; names are in lower case, and empty ones left out.
        self._given: ChainMap[str, str | None] = ChainMap(
            *(dict(source.env_vars) for source in sources)
        )

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return what a field's file holds, if it has one."""
        path = self._given.get(f"{field_name}_file")
        if path is None or not _is_secret(field):
            return None, field_name, False
        name = field_name.upper()
        if self._given.get(field_name) is not None:
            raise SettingsError(f"{name}: {name}_FILE is set, too: which of them?")
        try:
            text = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is no text"
            raise SettingsError(f"{name}_FILE: {path}: {reason}") from None
        return text or None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return all secrets that are in files."""
        values = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: value for name, value in values.items() if value is not None}


def _is_secret(field: FieldInfo) -> bool:
    kinds = (field.annotation, *get_args(field.annotation))
    return any(SecretStr in (kind, *get_args(kind)) for kind in kinds)


def _check_postgres_address(value: SecretStr) -> SecretStr:
    parse_postgres_address(value.get_secret_value())
    return value


def _normalize_redis_url(value: SecretStr) -> SecretStr:
    return SecretStr(normalized_redis_url(value.get_secret_value()))


PostgresUrl = Annotated[SecretStr, AfterValidator(_check_postgres_address)]
RedisUrl = Annotated[SecretStr, AfterValidator(_normalize_redis_url)]


class SettingsGroup(BaseSettings):
    """A few settings that belong together, frozen once read.

    An empty variable counts as unset, as in the compose file's `${NAME:-}`.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Add the files of secrets."""
        variables = (env_settings, dotenv_settings)
        named = [one for one in variables if isinstance(one, EnvSettingsSource)]
        files = SecretFiles(settings_cls, named)
        return (init_settings, *variables, files, file_secret_settings)


Group = TypeVar("Group", bound=SettingsGroup)


def load(group: type[Group]) -> Group:
    """Read one group from the environment and the `.env` file.

    Raises `SettingsError` in the operator's terms.
    """
    read = cast("Callable[..., Group]", group)  # the model's own fields are all it declares
    named = os.environ.get("ENV_FILE")
    # Passed over, a mistyped name would lead to the servers that something else names.
    if named and not Path(named).is_file():
        raise SettingsError(f"ENV_FILE: there is no file {named}")
    try:
        return read(_env_file=".env" if named is None else named or None)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(error))) from None
    except UnicodeDecodeError:  # as PowerShell's `>` writes it
        raise SettingsError(f"{named or '.env'}: is not UTF-8 text: save it as UTF-8") from None


def _explain(error: ValidationError) -> list[str]:
    # Never the value itself: it may be a secret.
    return [
        f"{'.'.join(map(str, problem['loc'])).upper() or 'settings'}: "
        f"{problem['msg'].removeprefix('Value error, ')}"
        for problem in error.errors(include_url=False, include_input=False)
    ]


def _check_base_url(value: str) -> str:
    try:
        url = URL(value)
    except ValueError as error:
        raise ValueError("not a URL") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("not an http or https URL")
    # A slash too many is where two parts were put together.
    scheme, _, rest = value.partition("://")
    return f"{scheme}://{re.sub('/+', '/', rest)}".rstrip("/")


BaseUrl = Annotated[str, AfterValidator(_check_base_url)]


# As long as those that Supabase makes itself. Whoever has the secret can make others at any time.
KEY_LIFETIME = timedelta(days=3650)


def _signed_key(secret: str) -> str:
    from joserfc import jwt  # noqa: PLC0415 (takes 50 ms, and most services need none)
    from joserfc.jwk import OctKey  # noqa: PLC0415

    made_at = datetime.now(UTC)
    claims = {
        "iss": "supabase",
        "role": "service_role",
        "iat": made_at,
        "exp": made_at + KEY_LIFETIME,
    }
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(secret))


class ProjectSettings(SettingsGroup):
    """A Supabase project: its auth server, its key, and how its tokens are told.

    Without `supabase_key` one is made of the secret, for an auth server without a gateway.
    """

    supabase_uri: BaseUrl
    supabase_key: SecretStr | None = None
    supabase_auth_url: BaseUrl | None = None
    supabase_jwt_secret: SecretStr | None = None
    supabase_jwt_issuer: str | None = None

    @model_validator(mode="after")
    def _check_key(self) -> Self:
        if self.supabase_key is None and self.supabase_jwt_secret is None:
            raise ValueError(
                "SUPABASE_KEY is missing: set it to the project's secret key or, for an auth "
                "server without a gateway, SUPABASE_JWT_SECRET to its secret"
            )
        return self

    @property
    def service_key(self) -> str:
        """The key by which the auth server knows us."""
        if self.supabase_key is not None:
            return self.supabase_key.get_secret_value()
        return _signed_key(self.jwt_secret or "")

    @property
    def auth_url(self) -> str:
        """The auth server's address: a path of Supabase's gateway unless set otherwise."""
        return self.supabase_auth_url or f"{self.supabase_uri}/auth/v1"

    @property
    def jwt_secret(self) -> str | None:
        """The secret of a project that signs its tokens with one."""
        secret = self.supabase_jwt_secret
        return None if secret is None else secret.get_secret_value()

    @property
    def issuers(self) -> frozenset[str]:
        """The `iss` claims to accept. Self-hosted servers use either form of their address."""
        if self.supabase_jwt_issuer is not None:
            return frozenset({self.supabase_jwt_issuer.rstrip("/")})
        return frozenset({f"{self.supabase_uri}/auth/v1", self.supabase_uri, self.auth_url})


class PostgresSettings(SettingsGroup):
    """Where the leads are stored.

    Migrations go to `postgres_direct_url`, if that is set. `postgres_statement_cache` is whether
    prepared statements are kept: `auto` keeps them where no pooler stands in between.
    """

    supabase_connection_string: PostgresUrl
    postgres_direct_url: PostgresUrl | None = None
    postgres_pool_size: int = Field(default=10, ge=1, le=200)
    postgres_timeout: Duration = timedelta(seconds=5)
    postgres_statement_cache: Literal["auto", "on", "off"] = "auto"

    @property
    def address(self) -> PostgresAddress:
        """Where the services find the database."""
        return parse_postgres_address(self.dsn)

    @property
    def dsn(self) -> str:
        """The connection string, password and all."""
        return self.supabase_connection_string.get_secret_value()

    @property
    def direct_dsn(self) -> str:
        """The connection string for migrations."""
        direct = self.postgres_direct_url
        return self.dsn if direct is None else direct.get_secret_value()


class ReplicaSettings(SettingsGroup):
    """A replica of PostgreSQL, for lists and exports: they show what was so a moment ago."""

    postgres_read_url: PostgresUrl | None = None


MOST_PARTITIONS = 256


class StreamsSettings(SettingsGroup):
    """The Redis that carries the streams: durable, never evicting.

    `redis_url` overrides host, port and password, e.g. for TLS, a password or another database
    (`rediss://user:password@host:port/0`), for the current master of a Sentinel group
    (`redis+sentinel://password@host:port,host:port/group/0`), or for a Redis Cluster by some of
    its nodes (`redis+cluster://user:password@host:port,host:port`, rediss+cluster:// for TLS). A
    consumed stream may grow to `stream_max_bytes`; past it events are refused.

    A stream that keeps an order has `stream_partitions`, fixed at its first start (8 then, where
    none is given): at most so many processes share it.
    """

    redis_host: Annotated[str, AfterValidator(host_in_url)] = "localhost"
    redis_port: int = Field(default=6379, ge=1, le=65535)
    redis_password: SecretStr | None = None
    redis_url: RedisUrl | None = None
    redis_timeout: Duration = timedelta(seconds=2)
    stream_max_bytes: int = Field(default=1 << 30, ge=1 << 16)
    stream_partitions: int | None = Field(default=None, ge=1, le=MOST_PARTITIONS)

    @property
    def url(self) -> str:
        """The address to connect to."""
        if self.redis_url is not None:
            return self.redis_url.get_secret_value()
        password = self.redis_password
        user = "" if password is None else f":{quote(password.get_secret_value(), safe='')}@"
        return f"redis://{user}{self.redis_host}:{self.redis_port}/0"


class ConsumerSettings(SettingsGroup):
    """How a consumer shares out and retries events."""

    stream_lease: Duration = timedelta(seconds=15)
    stream_block: Duration = timedelta(seconds=2)
    stream_max_attempts: int = Field(default=5, ge=1)
    stream_max_deliveries: int = Field(default=3, ge=2)
    stream_retention: Duration = timedelta(days=7)
    shutdown_deadline: Duration = timedelta(seconds=8)


class CacheSettings(SettingsGroup):
    """The Redis that caches leads: by default the streams' own."""

    cache_redis_url: RedisUrl | None = None
    cache_ttl: Duration = timedelta(seconds=300)
    cache_timeout: Duration = timedelta(milliseconds=250)


class ObservabilitySettings(SettingsGroup):
    """Logs and health. `health_port` 0 serves nothing.

    `log_sample` is the share of requests, with all that follows from them, whose lines at INFO are
    written, and `trace_ratio` the share that is traced, if there is a collector to send traces to.
    """

    log_level: str = "INFO"
    log_sample: float = Field(default=1, ge=0, le=1)
    log_format: str = Field(default="json", pattern="^(json|console)$")
    otel_exporter_otlp_endpoint: BaseUrl | None = None
    otel_exporter_otlp_headers: SecretStr | None = None
    trace_ratio: float = Field(default=0.05, ge=0, le=1)
    health_host: str = "0.0.0.0"
    health_port: int = Field(default=0, ge=0, le=65535)
