"""What the exporter reads from its environment."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from pydantic import Field

from shared.settings import (
    CacheSettings,
    Duration,
    ObservabilitySettings,
    PostgresSettings,
    ReplicaSettings,
    SettingsError,
    SettingsGroup,
    StreamsSettings,
    load,
)


class SharedStateSettings(SettingsGroup):
    """What the consumers are set to, by which their backlog is judged."""

    stream_retention: Duration = timedelta(days=7)
    summary_concurrency: int = Field(default=500, ge=1, le=5_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExporterSettings:
    """Every group that the exporter uses."""

    postgres: PostgresSettings
    replica: ReplicaSettings
    streams: StreamsSettings
    cache: CacheSettings
    state: SharedStateSettings
    observability: ObservabilitySettings

    @classmethod
    def load(cls) -> Self:
        """Read all of them; raises `SettingsError`."""
        settings = cls(
            postgres=load(PostgresSettings),
            replica=load(ReplicaSettings),
            streams=load(StreamsSettings),
            cache=load(CacheSettings),
            state=load(SharedStateSettings),
            observability=load(ObservabilitySettings),
        )
        if settings.observability.health_port == 0:
            raise SettingsError("HEALTH_PORT: needed, as /metrics is served there")
        return settings
