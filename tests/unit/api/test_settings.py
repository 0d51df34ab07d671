"""What the environment may say."""

from datetime import timedelta

import pytest

from services.api.settings import AuthSettings, HttpSettings
from shared.settings import SettingsError, load


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Return an environment with nothing but a project."""
    for name in (*HttpSettings.model_fields, *AuthSettings.model_fields):
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("ENV_FILE", "")
    monkeypatch.setenv("SUPABASE_URI", "https://ref.supabase.co/")
    monkeypatch.setenv("SUPABASE_KEY", "sb_secret_x")
    return monkeypatch


def test_the_defaults_are_those_of_the_documentation() -> None:
    http, auth = load(HttpSettings), load(AuthSettings)
    assert (http.port, http.operator_key, http.cors_accepted_origins) == (1234, None, frozenset())
    assert (http.create_timeout, http.summary_timeout) == (
        timedelta(seconds=2),
        timedelta(seconds=30),
    )
    assert auth.auth_url == "https://ref.supabase.co/auth/v1"
    assert auth.issuers == {"https://ref.supabase.co", "https://ref.supabase.co/auth/v1"}
    assert (auth.signup_mode, auth.signup_confirmation) == ("open", "auto")
    assert auth.password_min_length == 8


@pytest.mark.parametrize("key", ["", " ", "api-key", "API-KEY", "changeme"])
def test_a_placeholder_opens_nothing(key: str, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("API_KEY", key)
    assert load(HttpSettings).operator_key is None


def test_a_key_of_ones_own_opens_the_operators_routes(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("API_KEY", "correct horse battery staple")
    assert load(HttpSettings).operator_key == "correct horse battery staple"


def test_origins_come_in_a_list(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("CORS_ACCEPTED_ORIGINS", "https://App.example.com/, http://localhost:3000,")
    assert load(HttpSettings).cors_accepted_origins == {
        "https://app.example.com",
        "http://localhost:3000",
    }


@pytest.mark.parametrize(
    "origins",
    [
        *("*", "null", "app.example.com", "https://", "https://a.example/path", "ftp://a.example"),
        "https://*.a.example",
    ],
)
def test_what_is_no_origin_is_refused_at_the_start(
    origins: str, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("CORS_ACCEPTED_ORIGINS", origins)
    with pytest.raises(SettingsError, match="CORS_ACCEPTED_ORIGINS"):
        load(HttpSettings)


@pytest.mark.parametrize("uri", ["", "ref.supabase.co", "ftp://ref.supabase.co", "https://"])
def test_a_project_needs_an_address(uri: str, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SUPABASE_URI", uri)
    with pytest.raises(SettingsError, match="SUPABASE_URI"):
        load(AuthSettings)


def test_an_issuer_of_ones_own_replaces_the_usual_ones(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SUPABASE_JWT_ISSUER", "http://localhost:8000/auth/v1/")
    assert load(AuthSettings).issuers == {"http://localhost:8000/auth/v1"}


def test_secrets_are_not_shown(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SUPABASE_JWT_SECRET", "hush-hush")
    assert "hush" not in repr(load(AuthSettings))
