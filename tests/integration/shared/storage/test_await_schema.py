"""Services that are started together with a migration wait for it, but for no server."""

import asyncio

import psycopg
import pytest

from devstack.free_ports import free_port
from devstack.servers.postgres import EmbeddedPostgres
from shared.settings import PostgresSettings
from shared.storage.migrations.known import known_migrations
from shared.storage.migrations.runner import await_schema, migrate
from shared.storage.migrations.steps import MigrationError


def test_a_schema_that_is_complete_is_not_waited_for(postgres_settings: PostgresSettings) -> None:
    assert await_schema(postgres_settings.dsn)


async def test_who_migrates_ends_the_wait(postgres: EmbeddedPostgres) -> None:
    server = postgres.dsn_of("postgres")
    async with await psycopg.AsyncConnection.connect(server, autocommit=True) as connection:
        await connection.execute("CREATE DATABASE awaited")
        try:
            dsn = postgres.dsn_of("awaited")
            waiting = asyncio.create_task(asyncio.to_thread(await_schema, dsn), name="wait")
            done, _ = await asyncio.wait([waiting], timeout=0.3)
            assert not done
            assert set(await asyncio.to_thread(migrate, dsn)) == known_migrations()
            assert await waiting
        finally:
            await connection.execute("DROP DATABASE awaited WITH (FORCE)")


def test_a_server_that_is_away_is_not_waited_for() -> None:
    assert not await_schema(f"postgresql://leads:x@127.0.0.1:{free_port()}/leads")


def test_a_role_that_may_not_look_is_told(postgres_settings: PostgresSettings) -> None:
    with psycopg.connect(postgres_settings.dsn, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS stranger")
        connection.execute("CREATE ROLE stranger LOGIN PASSWORD 'stranger'")
        try:
            host, port = connection.info.host, connection.info.port
            address = f"postgresql://stranger:stranger@{host}:{port}/{connection.info.dbname}"
            with pytest.raises(MigrationError, match="permission denied"):
                await_schema(address)
        finally:
            connection.execute("DROP ROLE stranger")
