"""What the summarizer reads from its environment."""

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, Self

from pydantic import Field, HttpUrl, SecretStr

from shared.settings import (
    CacheSettings,
    ConsumerSettings,
    Duration,
    ObservabilitySettings,
    PostgresSettings,
    SettingsError,
    SettingsGroup,
    StreamsSettings,
    load,
)

# What stands in an example of a configuration, and is no key.
PLACEHOLDER_KEY = "groq-api-key"
GROQ_HOST = "api.groq.com"

# Groq's limits for the default model without a paid plan: the sums may differ for an account.
# https://console.groq.com/docs/rate-limits
FREE_REQUESTS_PER_MINUTE = 30
FREE_TOKENS_PER_MINUTE = 8_000
DAILY_QUOTA = 500


class SummarySettings(SettingsGroup):
    """Who writes the summaries, and how long and how often."""

    summary_provider: Literal["auto", "groq", "offline"] = "auto"
    summary_deadline: Duration = timedelta(seconds=60)
    summary_concurrency: int = Field(default=500, ge=1, le=5_000)
    summary_daily_quota: int | None = Field(default=None, ge=0)
    summary_personal_data: bool = False
    summary_new_leads: bool = False


class GroqSettings(SettingsGroup):
    """The account at Groq, or at any server with the same protocol.

    Limits that are not given are those of an account without a paid plan for Groq itself, and
    none for another server; 0 is no limit.
    """

    groq_api_key: SecretStr | None = None
    groq_model: str = Field(default="openai/gpt-oss-20b", min_length=1)
    groq_base_url: HttpUrl = HttpUrl(f"https://{GROQ_HOST}")
    groq_timeout: Duration = timedelta(seconds=20)
    groq_max_tokens: int = Field(default=1_024, ge=64, le=8_192)
    groq_requests_per_minute: int | None = Field(default=None, ge=0)
    groq_tokens_per_minute: int | None = Field(default=None, ge=0)

    @property
    def key(self) -> str | None:
        """Return the key, if there is a real one."""
        key = "" if self.groq_api_key is None else self.groq_api_key.get_secret_value().strip()
        return None if key in {"", PLACEHOLDER_KEY} else key

    @property
    def account(self) -> str:
        """Return a name for who is asked with which key, from which neither can be read."""
        return hashlib.sha256(f"{self.groq_base_url} {self.key}".encode()).hexdigest()[:16]

    @property
    def requests_per_minute(self) -> int:
        """Return the limit in force; 0 is none."""
        return self._or_free(self.groq_requests_per_minute, FREE_REQUESTS_PER_MINUTE)

    @property
    def tokens_per_minute(self) -> int:
        """Return the limit in force; 0 is none."""
        return self._or_free(self.groq_tokens_per_minute, FREE_TOKENS_PER_MINUTE)

    @property
    def is_groq_itself(self) -> bool:
        """Whether calls go to Groq and may cost money there."""
        return self.groq_base_url.host == GROQ_HOST

    def _or_free(self, limit: int | None, free: int) -> int:
        if limit is not None:
            return limit
        return free if self.is_groq_itself else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SummarizerSettings:
    """Every group that the summarizer uses."""

    postgres: PostgresSettings
    streams: StreamsSettings
    consumer: ConsumerSettings
    cache: CacheSettings
    summary: SummarySettings
    groq: GroqSettings
    observability: ObservabilitySettings

    @classmethod
    def load(cls) -> Self:
        """Read all of them; raises `SettingsError`."""
        settings = cls(
            postgres=load(PostgresSettings),
            streams=load(StreamsSettings),
            consumer=load(ConsumerSettings),
            cache=load(CacheSettings),
            summary=load(SummarySettings),
            groq=load(GroqSettings),
            observability=load(ObservabilitySettings),
        )
        if settings.summary.summary_provider == "groq" and settings.groq.key is None:
            raise SettingsError("GROQ_API_KEY: needed when SUMMARY_PROVIDER is groq")
        return settings

    @property
    def uses_groq(self) -> bool:
        """Whether Groq writes the summaries: with `auto` when there is a key for it."""
        if self.summary.summary_provider == "auto":
            return self.groq.key is not None
        return self.summary.summary_provider == "groq"

    @property
    def daily_quota(self) -> int:
        """Return how many summaries a user may have written per day; 0 is no limit."""
        quota = self.summary.summary_daily_quota
        if quota is not None:
            return quota
        return DAILY_QUOTA if self.uses_groq and self.groq.is_groq_itself else 0
