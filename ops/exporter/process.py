"""`ops exporter`."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from datetime import timedelta

import click
import structlog

from ops.exporter.postgres import PostgresSource
from ops.exporter.readings import EVERY, Readings, Samples, Source
from ops.exporter.settings import ExporterSettings
from ops.exporter.streams import RedisSource, add_server
from ops.running import Servers
from shared.administration.doctor.diagnosis import Severity
from shared.administration.doctor.examination import Doctor, DoctorSettings
from shared.background import end
from shared.domain.errors import UnavailableError
from shared.lifecycle import instance_name, run_service, stop_signal
from shared.observability.health import serve_health
from shared.observability.logging import configure_logging
from shared.observability.metrics import exported, family
from shared.observability.outages import Outages
from shared.redis_connections import check_server, client_of, open_redis, ping
from shared.settings import CacheSettings
from shared.storage.pool import open_database
from shared.streams.redis_facts import redis_facts

log = structlog.get_logger(__name__)

# The doctor looks at several things at once.
CONNECTIONS = 4

FINDINGS = family(
    "leads_doctor_findings",
    "gauge",
    "What `ops doctor` finds, by check and severity (warning, failure); its own words say what to "
    "do. The auth server is not looked at from here.",
    ("check", "severity"),
)


class CacheSource:
    """Reads the cache's Redis, where it is one of its own."""

    name = "cache"
    every = EVERY

    def __init__(self, servers: Servers, *, is_own: bool) -> None:
        self._redis = servers.redis
        self._is_own = is_own

    async def read(self, samples: Samples) -> None:
        """Add what it says of itself; of the streams' Redis that is known already."""
        try:
            if self._is_own:
                add_server(samples, await redis_facts(self._redis), server=self.name)
            else:
                await ping(self._redis)
        except UnavailableError as error:
            raise UnavailableError(str(error), dependency=self.name) from error


class DoctorSource:
    """Has the doctor look at everything, now and then: it takes longer than all the rest."""

    name = "doctor"
    every = timedelta(minutes=5)

    def __init__(self, doctor: Doctor) -> None:
        self._doctor = doctor

    async def read(self, samples: Samples) -> None:
        """Count the findings."""
        for one in await self._doctor.examine_servers():
            for severity in (Severity.WARNING, Severity.FAILURE):
                found = samples[FINDINGS]
                labels = (one.kind or one.check, severity.value)
                found[labels] = found.get(labels, 0) + (one.severity is severity)


@click.command("exporter")
def command() -> None:
    """Export what all processes share as metrics.

    Runs until SIGTERM. Reads streams, partitions, servers, dead letters and jobs every 15 s and
    serves them at /metrics of HEALTH_PORT. One replica is enough: two would say everything twice.
    What cannot be read is not exported, and leads_exporter_up says so.

    leads_wanted_replicas is for autoscalers. syncer: the sum over partitions of min(backlog without
    held events / 30,000, 1), from 1 to the number of partitions. summarizer: backlog /
    SUMMARY_CONCURRENCY, at least 1, and not more than there are while the model's budget is spent
    or its provider has asked for a pause.
    """
    run_service(main)


async def main() -> None:
    """Read the settings and run until SIGTERM or SIGINT."""
    settings = ExporterSettings.load()
    configure_logging(
        settings.observability, service="exporter", instance=instance_name("exporter")
    )
    async with stop_signal() as stop, open_sources(settings) as sources:
        readings = Readings(sources, outages=Outages())
        with exported(readings):
            async with serve_health(settings.observability, {"rounds": readings.check}):
                await _run(readings, sources, stop)
    log.info("exporter.stopped")


@contextlib.asynccontextmanager
async def open_sources(settings: ExporterSettings) -> AsyncGenerator[list[Source]]:
    """Open what is read; nothing is connected to yet."""
    few = settings.postgres.model_copy(update={"postgres_pool_size": CONNECTIONS})
    async with (
        open_redis(settings.streams) as redis,
        open_database(few) as database,
        _open_cache(settings.cache, Servers(redis, database)) as cache,
    ):
        await check_server(redis, setting="REDIS_URL")
        servers = Servers(redis, database)
        yield [
            RedisSource(
                servers,
                max_bytes=settings.streams.stream_max_bytes,
                retention=settings.state.stream_retention,
                concurrency=settings.state.summary_concurrency,
            ),
            PostgresSource(servers),
            cache,
            DoctorSource(Doctor(redis, database, _doctor_settings(settings))),
        ]


def _doctor_settings(settings: ExporterSettings) -> DoctorSettings:
    """Return what the doctor compares with: the auth server is not known here."""
    return DoctorSettings(
        streams=settings.streams,
        postgres=settings.postgres,
        replica=settings.replica,
        project=None,
    )


@contextlib.asynccontextmanager
async def _open_cache(settings: CacheSettings, servers: Servers) -> AsyncGenerator[CacheSource]:
    if settings.cache_redis_url is None:
        yield CacheSource(servers, is_own=False)
        return
    url, timeout = settings.cache_redis_url.get_secret_value(), settings.cache_timeout
    async with client_of(url, connect=timeout, answer=timeout, most=CONNECTIONS) as client:
        yield CacheSource(Servers(client, servers.database), is_own=True)


async def _run(readings: Readings, sources: list[Source], stop: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as tasks:
        reading = [
            tasks.create_task(readings.keep_reading(source.name), name=f"reading {source.name}")
            for source in sources
        ]
        log.info("exporter.started", sources=[source.name for source in sources])
        await stop.wait()
        for task in reading:
            await end(task)
