"""A process that is configured for another number of partitions than there are does not work."""

import os
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from datetime import timedelta

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from shared.domain.errors import UnavailableError
from shared.events.catalog import LEADS
from shared.events.partitions import Division, Layout
from shared.settings import PostgresSettings, SettingsError, StreamsSettings
from shared.storage.partitions import PartitionRepository
from shared.storage.pool import Database, open_database
from shared.streams.ordering.layout import Divisions
from shared.streams.ordering.ownership import Ownership
from tests.conftest import LEADS_DIVISION
from tests.support.forked_process import forked_python
from tests.support.repository import ROOT

NEXT = Division([*LEADS_DIVISION.layouts, Layout(LEADS, 2, 5)], is_open=False)


@pytest.fixture(autouse=True)
async def store(database: Database) -> PartitionRepository:
    store = PartitionRepository(database)
    await store.divide(LEADS, partitions=3, is_open=True)
    return store


@pytest.mark.parametrize("partitions", [None, 3])
async def test_the_recorded_number_is_right(
    redis: Redis, store: PartitionRepository, partitions: int | None
) -> None:
    divisions = Divisions(redis, store, partitions=partitions)
    await divisions.check_settings()
    assert (await divisions.layout(LEADS)).partitions == 3


async def test_another_number_is_told_with_what_to_do(
    redis: Redis, store: PartitionRepository
) -> None:
    with pytest.raises(SettingsError, match="`ops streams partition --to 4`"):
        await Divisions(redis, store, partitions=4).check_settings()


async def test_while_it_is_changed_both_numbers_are_right(
    redis: Redis, store: PartitionRepository
) -> None:
    await store.divide(LEADS, number=2, partitions=5, is_open=False)
    for partitions in (3, 5):
        await Divisions(redis, store, partitions=partitions).check_settings()
    with pytest.raises(SettingsError, match="has 5 partitions"):
        await Divisions(redis, store, partitions=4).check_settings()


async def test_a_process_that_has_begun_goes_on_when_it_is_changed(
    redis: Redis, store: PartitionRepository
) -> None:
    divisions = Divisions(redis, store, partitions=3)
    await divisions.layout(LEADS)
    await Divisions(redis).publish(Division(NEXT.layouts, is_open=True))
    assert (await divisions.refresh(LEADS)).last.partitions == 5


async def test_what_could_not_be_asked_at_the_start_is_found_later(redis: Redis) -> None:
    nowhere = PostgresSettings(
        supabase_connection_string=SecretStr("postgresql://postgres:x@127.0.0.1:9/leads")
    )
    async with open_database(nowhere) as database:
        divisions = Divisions(redis, PartitionRepository(database), partitions=4)
        await divisions.check_settings()
        with pytest.raises(UnavailableError, match="STREAM_PARTITIONS: is 4"):
            await divisions.layout(LEADS)


async def test_who_finds_it_later_takes_no_share(redis: Redis, store: PartitionRepository) -> None:
    ownership = Ownership(
        store,
        Divisions(redis, store, partitions=4),
        redis,
        stream=LEADS,
        name="syncer:here:1",
        lease=timedelta(seconds=15),
    )
    with pytest.raises(UnavailableError, match="STREAM_PARTITIONS: is 4"):
        await ownership.keep()
    assert (await store.survey(LEADS)).members == []


@pytest.mark.parametrize("service", ["api", "syncer"])
async def test_services_end_with_status_2(
    service: str, postgres_settings: PostgresSettings, streams_settings: StreamsSettings
) -> None:
    process = await create_subprocess_exec(
        *(forked_python(), "-m", f"services.{service}"),
        cwd=ROOT,
        env={
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "ENV_FILE": "",
            "SUPABASE_URI": "http://127.0.0.1:9",
            "SUPABASE_KEY": "a-key",
            "SUPABASE_CONNECTION_STRING": postgres_settings.dsn,
            "REDIS_URL": streams_settings.url,
            "STREAM_PARTITIONS": "4",
            "PORT": "0",
            "API_HOST": "127.0.0.1",
        },
        stdout=PIPE,
        stderr=PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert errors.decode().startswith("Wrong settings:\nSTREAM_PARTITIONS: is 4, but stream:leads")
