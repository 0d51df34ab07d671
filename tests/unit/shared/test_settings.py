"""Secrets may be in files, as orchestrators mount them."""

from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from services.api.settings import AuthSettings
from shared.settings import PostgresSettings, SettingsError, StreamsSettings, load

SECRET = "a secret of at least thirty-two characters"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for name in ("SUPABASE_CONNECTION_STRING", "REDIS_URL", "REDIS_PASSWORD", "REDIS_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ENV_FILE", "")
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def test_a_secret_is_read_from_the_file_that_is_named(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "dsn").write_text("postgresql://me:pass word@db/leads\n")
    (tmp_path / "key").write_text("sb_secret_x\r\n")
    environment.setenv("SUPABASE_CONNECTION_STRING_FILE", str(tmp_path / "dsn"))
    environment.setenv("SUPABASE_KEY_FILE", "key")
    environment.setenv("SUPABASE_URI", "https://ref.supabase.co")
    environment.delenv("SUPABASE_KEY", raising=False)
    assert load(PostgresSettings).dsn == "postgresql://me:pass word@db/leads"
    assert load(AuthSettings).service_key == "sb_secret_x"


def test_the_name_of_a_file_may_be_in_the_env_file(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("p@ss/word")
    (tmp_path / ".env").write_text("REDIS_PASSWORD_FILE=password\nREDIS_HOST=streams\n")
    environment.delenv("ENV_FILE")
    assert load(StreamsSettings).url == "redis://:p%40ss%2Fword@streams:6379/0"


def test_an_env_file_that_is_named_has_to_be_there(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ENV_FILE", "stack.evn")
    with pytest.raises(SettingsError, match="ENV_FILE: there is no file"):
        load(StreamsSettings)


@pytest.mark.parametrize("encoding", ["utf-16", "windows-1252"])
def test_an_env_file_in_another_encoding_is_refused(
    encoding: str, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("# Schl\u00fcssel\nREDIS_HOST=streams\n", encoding=encoding)
    environment.delenv("ENV_FILE")
    with pytest.raises(SettingsError, match=r"\.env: is not UTF-8"):
        load(StreamsSettings)


@pytest.mark.parametrize("seconds", ["inf", "nan", "1e400", "1e15", "2 s"])
def test_what_is_no_time_span_is_refused_by_name(
    seconds: str, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("REDIS_TIMEOUT", seconds)
    with pytest.raises(SettingsError, match="REDIS_TIMEOUT: "):
        load(StreamsSettings)


def test_an_empty_name_is_none(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("REDIS_PASSWORD_FILE", "")
    assert load(StreamsSettings).url == "redis://localhost:6379/0"


@pytest.mark.parametrize("text", ["", "\n", "\r\n"])
def test_an_empty_file_is_none(text: str, environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Kubernetes mounts a secret whole: what is not needed is there, and empty."""
    (tmp_path / "nothing").write_text(text)
    for name in ("REDIS_PASSWORD_FILE", "REDIS_URL_FILE", "SUPABASE_CONNECTION_STRING_FILE"):
        environment.setenv(name, "nothing")
    assert load(StreamsSettings).url == "redis://localhost:6379/0"
    with pytest.raises(SettingsError, match="SUPABASE_CONNECTION_STRING: Field required"):
        load(PostgresSettings)


def test_a_key_is_made_of_the_secret_where_none_is_given(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("SUPABASE_KEY", raising=False)
    environment.setenv("SUPABASE_URI", "http://auth:9999")
    with pytest.raises(SettingsError, match="SUPABASE_KEY is missing: set it"):
        load(AuthSettings)
    environment.setenv("SUPABASE_JWT_SECRET", SECRET)
    token = jwt.decode(load(AuthSettings).service_key, OctKey.import_key(SECRET))
    assert token.claims["role"] == "service_role"


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("https://x.supabase.co//auth/v1", "https://x.supabase.co/auth/v1"),
        ("http://auth:9999/", "http://auth:9999"),
        ("https://x.supabase.co//", "https://x.supabase.co"),
    ],
)
def test_an_address_has_no_slash_too_many(
    given: str, read: str, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("SUPABASE_URI", "http://auth:9999")
    environment.setenv("SUPABASE_KEY", "sb_secret_x")
    environment.setenv("SUPABASE_AUTH_URL", given)
    assert load(AuthSettings).auth_url == read


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"REDIS_URL": "redis://x", "REDIS_URL_FILE": "url"}, "REDIS_URL: REDIS_URL_FILE is set"),
        ({"REDIS_PASSWORD_FILE": "nowhere"}, "REDIS_PASSWORD_FILE: nowhere: No such file"),
        ({"REDIS_PASSWORD_FILE": "."}, "REDIS_PASSWORD_FILE: .: Is a directory"),
        ({"REDIS_PASSWORD_FILE": "binary"}, "REDIS_PASSWORD_FILE: binary: is no text"),
    ],
)
def test_what_is_wrong_is_named_and_not_quoted(
    variables: dict[str, str], says: str, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe secret")
    (tmp_path / "url").write_text("redis://:secret@x")
    for name, value in variables.items():
        environment.setenv(name, value)
    with pytest.raises(SettingsError) as error:
        load(StreamsSettings)
    assert says in str(error.value)
    assert "secret" not in str(error.value)


def test_what_is_no_secret_has_no_file(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("REDIS_HOST_FILE", "nowhere")
    assert load(StreamsSettings).redis_host == "localhost"
