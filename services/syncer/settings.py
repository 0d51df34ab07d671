"""What the syncer reads from its environment."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Self

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, Field, HttpUrl

from shared.settings import (
    CacheSettings,
    ConsumerSettings,
    Duration,
    ObservabilitySettings,
    PostgresSettings,
    SettingsGroup,
    StreamsSettings,
    load,
)


def _check_cron(expression: str) -> str:
    try:
        CronSim(expression, datetime.now(UTC))
    except CronSimError as error:
        raise ValueError(f"not a cron expression: {error}") from error
    return expression


class SyncSettings(SettingsGroup):
    """The schedule and the external source."""

    sync_cron: Annotated[str, AfterValidator(_check_cron)] = "*/2 * * * *"
    sync_enabled: bool = True
    sync_results: int = Field(default=10, ge=1, le=5000)
    sync_timeout: Duration = timedelta(seconds=30)
    randomuser_url: HttpUrl = HttpUrl("https://randomuser.me/api/")


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncerSettings:
    """Every group that the syncer uses."""

    postgres: PostgresSettings
    streams: StreamsSettings
    consumer: ConsumerSettings
    cache: CacheSettings
    sync: SyncSettings
    observability: ObservabilitySettings

    @classmethod
    def load(cls) -> Self:
        """Read all of them; raises `SettingsError`."""
        return cls(
            postgres=load(PostgresSettings),
            streams=load(StreamsSettings),
            consumer=load(ConsumerSettings),
            cache=load(CacheSettings),
            sync=load(SyncSettings),
            observability=load(ObservabilitySettings),
        )
