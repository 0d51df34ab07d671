"""A server that goes silent or resets connections delays no caller; a defect is not an outage.

Nothing is set for a session, and what a platform sets is obeyed.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import LiteralString

import asyncpg
import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr
from yarl import URL

from shared.domain.errors import UnavailableError
from shared.settings import PostgresSettings
from shared.storage.migrations.runner import migrate
from shared.storage.pool import Database, open_database
from tests.support.eventually import eventually
from tests.support.pgbouncer import PgBouncer
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


WRITES = (
    "INSERT INTO leads.member (token, name, host, process) VALUES (gen_random_uuid(), '', '', '')",
    "CREATE TABLE leads.another ()",
    "SELECT setval('leads.event_position_seq', 9)",
)


@pytest.mark.parametrize("statement", WRITES)
async def test_what_only_reads_cannot_write(
    statement: str, postgres_settings: PostgresSettings
) -> None:
    async with open_database(postgres_settings, read_only=True) as database:
        for lending in (database.connection, database.transaction):
            with pytest.raises(UnavailableError, match="read-only transaction"):
                async with lending() as connection:
                    await connection.execute(statement)
        await database.ping()


@pytest.mark.parametrize("kept", ["auto", "on", "off"])
async def test_what_only_reads_opens_transactions_where_its_session_may_be_anothers(
    kept: str, postgres_settings: PostgresSettings, pooler: PgBouncer | None
) -> None:
    """They cost two round trips; a pooler would lend a read-only session to writers."""
    settings = postgres_settings.model_copy(update={"postgres_statement_cache": kept})
    is_ours = kept == "auto" and pooler is None
    async with open_database(settings, read_only=True) as database:
        for _ in range(2):
            async with database.connection() as connection:
                assert connection.is_in_transaction() is not is_ours
                default = await connection.fetchval("SHOW default_transaction_read_only")
                assert default == ("on" if is_ours else "off")
        with pytest.raises(UnavailableError, match="read-only transaction"):
            async with database.connection() as connection:
                await connection.execute(WRITES[0])


async def test_a_database_that_takes_no_writes_for_now_is_away_for_writers(
    postgres_dsn: str, database: Database
) -> None:
    """So a platform stops writes when a disk is full."""

    async def brake(statement: LiteralString) -> None:
        name = sql.Identifier(URL(postgres_dsn).path.strip("/"))
        async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as one:
            await one.execute("SET default_transaction_read_only = off")
            await one.execute(sql.SQL(statement).format(name))
            await one.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    await brake("ALTER DATABASE {} SET default_transaction_read_only = on")
    for _ in range(2):
        with pytest.raises(UnavailableError):
            async with database.connection() as connection:
                await connection.execute(WRITES[0])
    await brake("ALTER DATABASE {} RESET default_transaction_read_only")

    async def is_back() -> bool:
        try:
            async with database.connection() as connection:
                await connection.execute(WRITES[0])
        except UnavailableError as error:  # by a session that has just been ended
            raise AssertionError(str(error)) from error
        return True

    await eventually(is_back)


async def test_statements_are_kept_where_no_pooler_is_in_between(database: Database) -> None:
    for _ in range(2):
        async with database.connection() as connection:
            await connection.fetch("SELECT 1 AS kept")
    assert await kept_statements(database) == 1


@pytest.mark.parametrize("lost", ["DEALLOCATE ALL", "DISCARD ALL"])
async def test_a_pooler_that_shows_late_costs_one_statement(lost: str, database: Database) -> None:
    async with database.connection() as connection:
        await connection.fetch("SELECT 1 AS kept")
        await connection.execute(lost)
    with pytest.raises(UnavailableError, match="does not exist"):
        async with database.connection() as connection:
            await connection.fetch("SELECT 1 AS kept")
    assert await kept_statements(database) == 0


async def kept_statements(database: Database) -> int:
    query = "SELECT count(*) FROM pg_prepared_statements WHERE statement = 'SELECT 1 AS kept'"
    async with database.connection() as connection:
        await connection.fetch("SELECT 1 AS kept")
        return int(await connection.fetchval(query))


async def test_both_drivers_take_a_password_as_it_was_pasted(postgres_dsn: str) -> None:
    password = "p#s/s@w:o?r%d \"x' &="
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as one:
        await one.execute("DROP ROLE IF EXISTS odd")
        create = sql.SQL("CREATE ROLE odd SUPERUSER LOGIN PASSWORD {}")
        await one.execute(create.format(sql.Literal(password)))
    url = URL(postgres_dsn)
    pasted = (
        f"postgres://odd:{password}@{url.host}:{url.port}{url.path}?pgbouncer=true&sslmode=disable"
    )
    settings = PostgresSettings(supabase_connection_string=SecretStr(pasted))
    async with open_database(settings) as database:
        await database.ping()
    assert await asyncio.to_thread(migrate, settings.direct_dsn) == []
