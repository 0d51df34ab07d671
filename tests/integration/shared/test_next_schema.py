"""Services of one version on the schema of the next, which has more of everything."""

from collections.abc import AsyncGenerator
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql
from redis.asyncio import Redis

from shared.settings import CacheSettings, PostgresSettings, StreamsSettings
from tests.support.whole_system import System, open_system, services_on

_TABLES: LiteralString = """
    SELECT relname FROM pg_class
    WHERE relnamespace = 'leads'::regnamespace AND relkind = 'r' AND relname NOT LIKE '%yoyo%'
"""
_MORE = (
    "ALTER TABLE leads.{table} ADD COLUMN next text",
    "ALTER TABLE leads.{table} ADD COLUMN next_number integer NOT NULL DEFAULT 7",
    "ALTER TABLE leads.{table} ADD CONSTRAINT next_is_short CHECK (length(next) < 10) NOT VALID",
)
FLOWS = ("create", "read", "summarise", "tick", "replay", "import_file")


@pytest.fixture
async def system(
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
    cache_settings: CacheSettings,
    redis: Redis,
) -> AsyncGenerator[System]:
    services = services_on(postgres_settings, streams_settings, cache_settings)
    async with (
        services(),
        open_system(postgres_settings, streams_settings, cache_settings, redis) as opened,
    ):
        yield opened


async def test_services_that_run_go_on_when_all_tables_get_more_columns(
    system: System, postgres_dsn: str
) -> None:
    for flow in FLOWS:
        await getattr(system, flow)()
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:
        tables = await (await connection.execute(_TABLES)).fetchall()
        for (table,) in tables:
            for statement in _MORE:
                await connection.execute(sql.SQL(statement).format(table=sql.Identifier(table)))
    for flow in FLOWS:
        await getattr(system, flow)()
