"""What compose.yaml adds by profiles: an auth server that agrees with the API, and backups."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import yaml
from jsonschema import Draft7Validator
from yarl import URL

from devstack.servers.binaries import postgres_directory
from ops.backups.backup import ROUND
from ops.backups.backup import command as backup
from services.api.settings import AuthSettings
from tests.support.repository import ROOT

HOSTED = {"SUPABASE_URI": "https://ref.supabase.co", "SUPABASE_KEY": "sb_secret_x"}
SECRET = "a-secret-of-at-least-thirty-two-characters"
LOCAL = {"SUPABASE_JWT_SECRET": SECRET, "POSTGRES_PASSWORD": "pg4711"}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    return found


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """Return a text as Compose makes it, innermost variables first."""
    inner = re.compile(r"\$\{(\w+)(?:(:[-+])([^${}]*))?\}")

    def value(match: re.Match[str]) -> str:
        given = variables.get(match[1], "")
        if match[2] == ":-":
            return given or match[3]
        return (match[3] if given else "") if match[2] else given

    while (made := inner.sub(value, text)) != text:
        text = made
    return text


def environment_of(service: dict[str, Any], variables: Mapping[str, str]) -> dict[str, str]:
    return {
        name: interpolated(str(value), variables) if value is not None else variables.get(name, "")
        for name, value in service["environment"].items()
    }


def auth_settings(
    services: dict[str, Any], variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> AuthSettings:
    """Return what an API in its container reads."""
    for name, value in environment_of(services["api"], variables).items():
        if name.startswith("SUPABASE_"):
            monkeypatch.setenv(name, value)
    return AuthSettings.model_validate({})  # out of the environment


@pytest.mark.parametrize(
    ("variables", "auth_url"),
    [
        (HOSTED, "https://ref.supabase.co/auth/v1"),
        (HOSTED | {"SUPABASE_JWT_SECRET": SECRET}, "https://ref.supabase.co/auth/v1"),
        (HOSTED | {"SUPABASE_URI": "https://own.example/"}, "https://own.example/auth/v1"),
        (HOSTED | {"SUPABASE_AUTH_URL": "http://gotrue:1"}, "http://gotrue:1"),
        (LOCAL, "http://auth:9999"),
    ],
)
def test_the_api_asks_the_project_or_else_the_auth_server_beside_it(
    variables: dict[str, str],
    auth_url: str,
    services: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert auth_settings(services, variables, monkeypatch).auth_url == auth_url


def test_a_missing_account_is_named(
    services: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="SUPABASE_KEY is missing: set it to the project's"):
        auth_settings(services, {}, monkeypatch)


def test_the_auth_server_and_the_api_agree(
    services: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = environment_of(services["auth"], LOCAL)
    api = auth_settings(services, LOCAL, monkeypatch)

    assert auth["GOTRUE_JWT_SECRET"] == api.jwt_secret == SECRET
    assert auth["GOTRUE_JWT_ISSUER"] in api.issuers
    assert URL(api.auth_url).port == int(auth["GOTRUE_API_PORT"])
    assert (
        f"{api.auth_url}/health".partition(":9999")[2]
        in services["auth"]["healthcheck"]["test"][-1]
    )
    assert api.service_key.count(".") == 2
    assert int(auth["GOTRUE_PASSWORD_MIN_LENGTH"]) == api.password_min_length
    assert services["auth"]["networks"] == ["data"], "the world would pass the API's limits by"
    for name in ("auth", "auth-database"):
        assert services[name]["profiles"] == ["supabase-local"]
    waits = services["api"]["depends_on"]["auth"]
    assert waits == {"condition": "service_healthy", "required": False}


@pytest.fixture
async def database(services: dict[str, Any], postgres_dsn: str) -> AsyncGenerator[URL]:
    """Yield the database that the auth server is told, made ready twice as at two starts."""
    dsn = URL(postgres_dsn)
    once = services["auth-database"]
    assert once["volumes"] == ["./deploy/supabase-auth.sql:/supabase-auth.sql:ro"]
    environment = environment_of(once, LOCAL) | {
        "PGHOST": str(dsn.host),
        "PGPORT": str(dsn.port),
        "PGUSER": str(dsn.user),
        "PGDATABASE": dsn.path[1:],
    }
    program, *arguments = (
        part.replace("/supabase-auth.sql", f"{ROOT}/deploy/supabase-auth.sql")
        for part in once["command"]
    )
    # The new user's password is the one that the script itself logs in with.
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute("CREATE ROLE starter SUPERUSER LOGIN PASSWORD 'pg4711'")
    try:
        for _ in range(2):
            process = await asyncio.create_subprocess_exec(
                *(postgres_directory() / program, *arguments),
                env=environment | {"PGUSER": "starter"},
            )
            assert await process.wait() == 0
        told = URL(environment_of(services["auth"], LOCAL)["GOTRUE_DB_DATABASE_URL"])
        yield told.with_host(str(dsn.host)).with_port(dsn.port).with_path(dsn.path)
    finally:
        await connection.execute("DROP OWNED BY supabase_auth_admin CASCADE")
        await connection.execute("DROP ROLE supabase_auth_admin; DROP ROLE starter")
        await connection.close()


async def test_the_auth_server_has_a_schema_of_its_own(database: URL) -> None:
    connection = await asyncpg.connect(str(database))
    try:
        await connection.execute("CREATE TABLE schema_migrations (version text)")
        where = "SELECT schemaname FROM pg_tables WHERE tablename = 'schema_migrations'"
        assert await connection.fetchval(where) == "auth"
        await connection.execute("GRANT SELECT ON schema_migrations TO postgres")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT FROM leads.lead")
    finally:
        await connection.close()


def test_backups_are_made_as_the_command_takes_it(services: dict[str, Any], tmp_path: Path) -> None:
    service = services["backup"]
    assert service["profiles"] == ["backup"]
    assert service["volumes"] == ["${BACKUP_DIR:-backups}:/backups"]
    for words in (service["command"], service["healthcheck"]["test"][1:]):
        python, _, ops, name, *arguments = (interpolated(str(word), {}) for word in words)
        assert (python, ops, name) == ("python", "ops", "backup")
        at = arguments.index("--to") + 1
        assert arguments[at] == "/backups"
        arguments[at] = str(tmp_path)
        context = backup.make_context("backup", arguments)
        assert context.params["schedule"] == "30 2 * * *"
    assert timedelta(minutes=int(service["healthcheck"]["interval"].removesuffix("m"))) <= ROUND


def test_the_example_of_secrets_in_files_is_right(services: dict[str, Any]) -> None:
    """Each file that a variable names is one that is mounted, and each secret can be in one."""
    text = (ROOT / "docs/operations.md").read_text().partition("**Secrets in files.**")[2]
    override = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    schema = json.loads((ROOT / "tests/support/schemas/compose-spec.json").read_text())
    assert list(Draft7Validator(schema).iter_errors(override)) == []
    for name, changes in override["services"].items():
        paths = {f"/run/secrets/{secret}" for secret in changes["secrets"]}
        assert set(changes["environment"].values()) == paths
        assert set(changes["secrets"]) <= override["secrets"].keys()
        for variable in changes["environment"]:
            assert variable.removesuffix("_FILE") in services[name]["environment"]
    for secret in ("SUPABASE_KEY", "REDIS_PASSWORD", "SUPABASE_JWT_SECRET", "GROQ_API_KEY"):
        assert f"`{secret}`" in text.partition("```yaml")[0]
