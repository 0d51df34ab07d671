"""Databases as earlier versions laid them."""

import asyncio
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from devstack.servers.postgres import EmbeddedPostgres
from shared.storage.migrations.known import DIRECTORY
from shared.storage.migrations.runner import migrate
from tests.support.repository import ROOT

# Those migrations that were other ones before they could be applied while services run.
EARLIER = ROOT / "tests/support/samples/earlier_migrations"


def earlier_migrations(into: Path, *, last: int) -> Path:
    """Write the migrations up to this number, as they were, to a directory."""
    into.mkdir()
    for path in DIRECTORY.glob("*.sql"):
        if int(path.name[:4]) <= last and not path.name.endswith(".rollback.sql"):
            earlier = EARLIER / path.name
            shutil.copy(earlier if earlier.exists() else path, into)
    return into


@asynccontextmanager
async def empty_database(server: EmbeddedPostgres, name: str) -> AsyncGenerator[str]:
    """Yield the address of a database with nothing in it."""
    identifier = sql.Identifier(name)
    dsn = server.dsn_of("postgres")
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as administration:
        await administration.execute(sql.SQL("CREATE DATABASE {}").format(identifier))
        try:
            yield server.dsn_of(name)
        finally:
            await administration.execute(
                sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier)
            )


async def apply_again(dsn: str, number: str) -> None:
    """Apply a migration as if it had been interrupted the last time."""
    statement = "DELETE FROM leads._yoyo_migration WHERE starts_with(migration_id, %s)"
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(statement, [number])
    assert len(await asyncio.to_thread(migrate, dsn)) == 1
