"""A server that goes silent or resets connections delays no caller; a defect is not an outage."""

import asyncio
import time
from collections.abc import AsyncGenerator
from datetime import timedelta

import asyncpg
import pytest
from pydantic import SecretStr
from yarl import URL

from shared.domain.errors import UnavailableError
from shared.settings import PostgresSettings
from shared.storage.pool import Database, open_database
from tests.support.eventually import eventually
from tests.support.tcp_proxy import TcpProxy

GIVE_UP = 0.2
SOON = 0.5


@pytest.fixture
async def link(postgres_dsn: str) -> AsyncGenerator[TcpProxy]:
    port = URL(postgres_dsn).port
    assert port is not None
    async with TcpProxy(port) as proxy:
        yield proxy


@pytest.fixture
async def distant(postgres_dsn: str, link: TcpProxy) -> AsyncGenerator[Database]:
    """Yield a database whose connections go over the link; one is open."""
    dsn = SecretStr(str(URL(postgres_dsn).with_port(link.port)))
    settings = PostgresSettings(
        supabase_connection_string=dsn, postgres_timeout=timedelta(seconds=3)
    )
    async with open_database(settings) as opened:
        await opened.ping()
        yield opened


async def test_giving_up_on_a_silent_server_takes_no_longer_than_that(
    distant: Database, link: TcpProxy
) -> None:
    link.swallow()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(GIVE_UP):
            await distant.ping()
    assert time.monotonic() - began < GIVE_UP + SOON
    link.heal()
    await distant.ping()


async def test_a_reset_is_an_outage_and_passes(distant: Database, link: TcpProxy) -> None:
    link.reset()
    for _ in range(3):
        with pytest.raises(UnavailableError):
            await distant.ping()
    link.heal()

    async def is_back() -> bool:
        await distant.ping()
        return True

    await eventually(is_back)


@pytest.mark.parametrize(
    ("statement", "parameters", "error"),
    [
        ("SELEC 1", (), asyncpg.PostgresSyntaxError),
        ("SELECT $1::integer", ("one",), asyncpg.DataError),
        ("SELECT $1::integer", (), asyncpg.InterfaceError),
        ("SELECT 1 / $1::integer", (0,), asyncpg.DivisionByZeroError),
        ("SELECT 1 FROM leads.not_migrated_yet", (), UnavailableError),
        ("SELECT leads.not_migrated_yet()", (), UnavailableError),
        ("SELECT not_migrated_yet FROM leads.lead", (), UnavailableError),
        ("SELECT 1::leads.not_migrated_yet", (), UnavailableError),
    ],
)
async def test_a_statement_is_a_defect_unless_the_schema_is_old(
    database: Database, statement: str, parameters: tuple[object, ...], error: type[Exception]
) -> None:
    with pytest.raises(error):
        async with database.connection() as connection:
            await connection.fetch(statement, *parameters)


async def test_a_column_that_a_row_does_not_have_is_a_defect(database: Database) -> None:
    async def ask() -> None:
        async with database.connection() as connection:
            [row] = await connection.fetch("SELECT 1 AS one")
            assert row["two"]

    with pytest.raises(KeyError):
        await ask()
