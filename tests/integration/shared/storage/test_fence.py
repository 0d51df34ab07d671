"""The fence, called by versions that run next to each other, on either schema."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from devstack.servers.postgres import EmbeddedPostgres
from shared.domain.errors import FencedError
from shared.events.catalog import LEADS
from shared.events.partitions import Claim
from shared.settings import PostgresSettings
from shared.storage.migrations.known import DIRECTORY
from shared.storage.migrations.runner import migrate
from shared.storage.partitions import PartitionRepository
from shared.storage.pool import Database, open_database
from tests.support.earlier_schema import earlier_migrations, empty_database

WITHOUT_EPOCHS = 19
# As versions from before 0020 call it.
_FENCE = "SELECT leads.fence($1, 1, $2, ARRAY[0], ARRAY[$3])"


@pytest.fixture
async def dsn(postgres: EmbeddedPostgres) -> AsyncGenerator[str]:
    async with empty_database(postgres, "fenced") as dsn:
        yield dsn


@pytest.fixture
async def earlier(dsn: str, tmp_path: Path) -> AsyncGenerator[Database]:
    """Yield a database with the fence that looks at no epochs, and one connection to it."""
    directory = earlier_migrations(tmp_path / "earlier", last=WITHOUT_EPOCHS)
    await asyncio.to_thread(migrate, dsn, directory=directory)
    settings = PostgresSettings(supabase_connection_string=SecretStr(dsn), postgres_pool_size=1)
    async with open_database(settings) as database:
        yield database


async def claimed(store: PartitionRepository) -> Claim:
    await store.divide(LEADS, partitions=1, is_open=True)
    [row] = (await store.survey(LEADS)).partitions
    claim = Claim(LEADS, row.layout, row.number, uuid4(), row.epoch + 1)
    assert await store.claim(claim, row) is not None
    return claim


async def position(store: PartitionRepository) -> str:
    [row] = (await store.survey(LEADS)).partitions
    return row.position


async def test_this_version_is_fenced_by_its_owner_until_the_schema_is_migrated(
    earlier: Database, dsn: str
) -> None:
    store = PartitionRepository(earlier)
    claim = await claimed(store)
    before = replace(claim, epoch=claim.epoch - 1)
    await store.move([(claim, "1-0")])
    with pytest.raises(FencedError):
        await store.move([(replace(claim, owner=uuid4()), "2-0")])
    await store.move([(before, "3-0")])
    assert await position(store) == "3-0"

    assert "0020.fence-acquisitions" in await asyncio.to_thread(migrate, dsn)
    with pytest.raises(FencedError):
        await store.move([(before, "4-0")])
    await store.move([(claim, "5-0")])

    async with earlier.connection() as connection:
        name = "0020.fence-acquisitions.rollback.sql"
        await connection.execute((DIRECTORY / name).read_text())
    await store.move([(before, "6-0")])


async def test_a_version_of_before_is_fenced_by_its_owner_on_this_schema(
    database: Database,
) -> None:
    store = PartitionRepository(database)
    claim = await claimed(store)

    async def fence(owner: UUID, position: str) -> None:
        async with database.transaction() as connection:
            await connection.execute(_FENCE, LEADS, owner, position)

    await fence(claim.owner, "1-0")
    await store.move([(claim, "2-0")])
    await fence(claim.owner, "3-0")  # by a pooler's connection that the other version has had
    assert await position(store) == "3-0"
    with pytest.raises(FencedError):
        await fence(uuid4(), "4-0")
