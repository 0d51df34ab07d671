"""How fast syncers work off what waits for them in the stream of leads."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import asyncpg
from pydantic import SecretStr

from bench.load import Round
from bench.measurement import Bench, Measurement
from devstack.data_directory import scratch_directory
from devstack.free_ports import free_port
from devstack.process import ignore_line
from devstack.servers.postgres import EmbeddedPostgres
from devstack.servers.valkey import EmbeddedValkey
from devstack.service import Service, ServiceSpec, module
from shared.events.data import LeadCreated
from shared.events.envelope import Event, new_id
from shared.events.lead_fields import LeadFields
from shared.redis_connections import open_redis
from shared.settings import PostgresSettings, StreamsSettings
from shared.storage.migrations.runner import migrate
from shared.storage.partitions import PartitionRepository
from shared.storage.pool import open_database
from shared.streams.ordering.layout import Divisions
from shared.streams.publisher import add_events

PAGE = 500
POLL = timedelta(milliseconds=50)


async def backlog(bench: Bench) -> AsyncIterator[Measurement]:
    """New leads that wait in the stream, worked off by one syncer and by several."""
    alone: list[Round] = []
    for syncers in (1, 2, 4, 8):
        seconds = await worked_off(bench.backlog, syncers=syncers)
        rounds = [Round.of_all(bench.backlog, seconds=seconds)]
        alone = alone or rounds
        name = f"{bench.backlog:,} new leads that wait, {syncers} syncers"
        yield Measurement(name, "one syncer", rounds, alone)


async def worked_off(events: int, *, syncers: int, partitions: int | None = None) -> float:
    """Return the seconds in which so many syncers, started now, store this many new leads.

    The stream has `partitions`, or as many as a first start makes.
    """
    with scratch_directory() as data:
        async with (
            EmbeddedPostgres(data / "postgres") as postgres,
            EmbeddedValkey(_made(data / "valkey")) as valkey,
        ):
            migrate(postgres.dsn)
            await _fill(postgres.dsn, valkey.url, events, partitions=partitions)
            copies = [_syncer(postgres.dsn, valkey.url, number) for number in range(syncers)]
            begun = time.monotonic()
            try:
                for copy in copies:
                    await copy.start()
                await _stored(postgres.dsn, events)
            finally:
                for copy in copies:
                    await copy.kill()
            return time.monotonic() - begun


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


async def _fill(dsn: str, redis_url: str, count: int, *, partitions: int | None) -> None:
    settings = PostgresSettings(supabase_connection_string=SecretStr(dsn))
    streams = StreamsSettings(redis_url=SecretStr(redis_url))
    async with open_database(settings) as database, open_redis(streams) as redis:
        divisions = Divisions(redis, PartitionRepository(database), partitions=partitions)
        for start in range(0, count, PAGE):
            numbers = range(start, min(start + PAGE, count))
            await add_events(redis, [_created(number) for number in numbers], divisions)


def _created(number: int) -> Event:
    lead_id = new_id()
    lead = LeadFields(
        first_name="Ada", last_name="Lovelace", email=f"ada.{number}@example.com", city="London"
    )
    data = LeadCreated(lead_id=lead_id, source="manual", lead=lead)
    return Event(source="bench", subject=str(lead_id), data=data)


def _syncer(dsn: str, redis_url: str, number: int) -> Service:
    environment = {
        "SUPABASE_CONNECTION_STRING": dsn,
        "REDIS_URL": redis_url,
        "SYNC_ENABLED": "false",
        "LOG_LEVEL": "ERROR",
        "ENV_FILE": "",
    }
    spec = ServiceSpec(
        f"syncer.{number}", module("services.syncer"), environment, free_port(), "/health/live"
    )
    return Service(spec, on_line=ignore_line)


async def _stored(dsn: str, count: int) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        while True:
            if await connection.fetchval("SELECT count(*) FROM leads.lead") >= count:
                return
            await asyncio.sleep(POLL.total_seconds())
    finally:
        await connection.close()
