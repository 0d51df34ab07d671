"""Who writes the summaries is a matter of settings, and a wrong one is named."""

import pytest

from services.summarizer.settings import SummarizerSettings
from shared.settings import SettingsError

ENVIRONMENT = {"ENV_FILE": "", "SUPABASE_CONNECTION_STRING": "postgresql://nobody@localhost/leads"}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GROQ_API_KEY", "GROQ_BASE_URL", "SUMMARY_PROVIDER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("provider", "key", "uses_groq"),
    [
        (None, None, False),
        (None, "", False),
        (None, " ", False),
        (None, "groq-api-key", False),
        (None, "gsk_real", True),
        ("auto", "gsk_real", True),
        ("offline", "gsk_real", False),
        ("groq", "gsk_real", True),
    ],
)
def test_provider(
    monkeypatch: pytest.MonkeyPatch, provider: str | None, key: str | None, *, uses_groq: bool
) -> None:
    if provider is not None:
        monkeypatch.setenv("SUMMARY_PROVIDER", provider)
    if key is not None:
        monkeypatch.setenv("GROQ_API_KEY", key)
    assert SummarizerSettings.load().uses_groq is uses_groq


@pytest.mark.parametrize("key", ["", "groq-api-key"])
def test_groq_without_a_key_is_refused(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("SUMMARY_PROVIDER", "groq")
    monkeypatch.setenv("GROQ_API_KEY", key)
    with pytest.raises(SettingsError, match="GROQ_API_KEY"):
        SummarizerSettings.load()


def test_limits_of_a_free_account_are_for_groq_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "gsk_real")
    settings = SummarizerSettings.load()
    assert (settings.groq.requests_per_minute, settings.groq.tokens_per_minute) == (30, 8_000)
    assert settings.daily_quota == 500


def test_another_server_has_no_limits_unless_they_are_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "anything")
    monkeypatch.setenv("GROQ_BASE_URL", "http://localhost:11434/v1")
    settings = SummarizerSettings.load()
    assert (settings.groq.requests_per_minute, settings.daily_quota) == (0, 0)
    monkeypatch.setenv("GROQ_REQUESTS_PER_MINUTE", "5")
    monkeypatch.setenv("SUMMARY_DAILY_QUOTA", "7")
    settings = SummarizerSettings.load()
    assert (settings.groq.requests_per_minute, settings.daily_quota) == (5, 7)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SUMMARY_PROVIDER", "openai"),
        ("SUMMARY_DEADLINE", "0"),
        ("SUMMARY_CONCURRENCY", "0"),
        ("GROQ_BASE_URL", "localhost:8080"),
        ("GROQ_TOKENS_PER_MINUTE", "-1"),
    ],
)
def test_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        SummarizerSettings.load()
