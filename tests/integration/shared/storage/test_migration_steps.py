"""How a migration is applied beside services at work, and goes on after an interruption."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import LiteralString
from uuid import UUID

import psycopg
import pytest

from devstack.data_directory import scratch_directory
from devstack.servers.postgres import EmbeddedPostgres
from shared.storage.migrations.runner import migrate
from shared.storage.migrations.steps import MigrationError, Steps
from tests.support.earlier_schema import empty_database
from tests.support.eventually import eventually

ONLINE = "-- transactional: false\n"
ROWS = 12_000
TABLE: LiteralString = """
    CREATE SCHEMA leads;
    CREATE TABLE leads.row (id uuid PRIMARY KEY, number integer, double integer);
    INSERT INTO leads.row (id, number)
    SELECT lpad(n::text, 32, '0')::uuid, n FROM generate_series(1, 12000) AS n;
"""
INSERT: LiteralString = "INSERT INTO leads.row VALUES (gen_random_uuid(), 1, 2)"
SET_NUMBER: LiteralString = "UPDATE leads.row SET number = %s WHERE id = %s"
TOUCH: LiteralString = "UPDATE leads.row SET number = number WHERE id = %s"
BEFORE_MIDDLE, MIDDLE = (UUID(f"{number:032}") for number in (5_999, 6_000))
DOUBLED = """
    UPDATE leads.row SET double = 2 * number
    WHERE id BETWEEN current_setting('chunk.first')::uuid AND current_setting('chunk.last')::uuid
      AND double IS NULL;
"""
SELECTS = """
    SELECT $$CREATE INDEX CONCURRENTLY IF NOT EXISTS one ON leads.row (number)$$
    WHERE to_regclass('leads.row') IS NOT NULL;
    SELECT $$DROP TABLE leads.row$$ WHERE to_regclass('leads.one') IS NULL;
    SELECT $$UPDATE leads.row SET double = 0; UPDATE leads.row SET double = 2 * number$$;
"""
DONE: LiteralString = "SELECT count(*) FROM leads.row WHERE double = number * 2::bigint"
# What has no number ends the session that changes it.
KILLER: LiteralString = """
    CREATE FUNCTION leads.kill() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$;
    CREATE TRIGGER one BEFORE UPDATE OF double ON leads.row FOR EACH ROW
        WHEN (NEW.number IS NULL) EXECUTE FUNCTION leads.kill();
"""
SLOW_VACUUM: LiteralString = """
    ALTER TABLE leads.row SET (
        autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1,
        autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0
    );
    UPDATE leads.row SET double = 1;
"""
SLOW: LiteralString = """
    CREATE FUNCTION leads.slow(number integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE
        AS $$ BEGIN IF number = 1 THEN PERFORM pg_sleep(0.3); END IF; RETURN number; END $$;
"""


@pytest.fixture(scope="module")
async def server(postgres: EmbeddedPostgres) -> AsyncGenerator[str]:
    async with empty_database(postgres, "steps") as dsn:
        yield dsn


@pytest.fixture
def dsn(server: str) -> str:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS leads CASCADE")
        connection.execute(TABLE)
    return server


class Migrations:
    """A directory of made-up migrations."""

    def __init__(self, directory: Path, dsn: str) -> None:
        self._directory = directory
        self._dsn = dsn
        self.lines: list[str] = []

    def add(self, name: str, text: str) -> None:
        (self._directory / f"{name}.sql").write_text(text)

    def run(self, parameters: str = "") -> list[str]:
        return migrate(self._dsn + parameters, self.lines.append, directory=self._directory)

    async def waits(self) -> bool:
        return any("waits for a lock" in line for line in self.lines)

    async def run_aside(self) -> list[str]:
        return await asyncio.to_thread(self.run)


@pytest.fixture
def migrations(tmp_path: Path, dsn: str) -> Migrations:
    return Migrations(tmp_path, dsn)


@pytest.fixture
async def other(dsn: str) -> AsyncGenerator[psycopg.AsyncConnection]:
    """Yield another session, which commits each statement by itself."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        yield connection


FUNCTION = """
    CREATE FUNCTION leads.nothing() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN RETURN NEW; END $$;
"""
TRIGGER = """
    CREATE TRIGGER one BEFORE UPDATE ON leads.row FOR EACH ROW EXECUTE FUNCTION leads.nothing();
"""


@pytest.mark.parametrize(
    "text",
    [
        "ALTER TABLE leads.row ADD COLUMN more text;",
        FUNCTION + TRIGGER,
        ONLINE + "ALTER TABLE leads.row ADD CHECK (number >= 0) NOT VALID;",
    ],
)
async def test_nobody_queues_for_long_behind_a_migration_that_waits(
    text: str, migrations: Migrations, dsn: str, other: psycopg.AsyncConnection
) -> None:
    migrations.add("1", text)
    async with await psycopg.AsyncConnection.connect(dsn) as writer:
        await writer.execute("UPDATE leads.row SET number = 1 WHERE number = 1")
        running = asyncio.create_task(migrations.run_aside())
        await eventually(migrations.waits)
        for _ in range(3):
            await other.execute(INSERT)
        assert not running.done()
    assert await running == ["1"]


async def test_behind_one_that_waits_as_usual_all_queue(
    dsn: str, other: psycopg.AsyncConnection
) -> None:
    async with (
        await psycopg.AsyncConnection.connect(dsn) as reader,
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) as migrator,
    ):
        await reader.execute("SELECT FROM leads.row LIMIT 1")
        running = asyncio.create_task(
            migrator.execute("ALTER TABLE leads.row ADD COLUMN more text")
        )
        await other.execute("SET lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            await repeated(lambda: other.execute(INSERT))
        await reader.commit()
        await running


async def test_who_waits_too_long_is_told_for_whom(dsn: str) -> None:
    with psycopg.connect(dsn) as reader, psycopg.connect(dsn, autocommit=True) as connection:
        reader.execute("SET application_name = 'a long report'")
        reader.execute("SELECT FROM leads.row LIMIT 1")
        connection.execute("SET application_name = 'leads migrate'")
        steps = Steps(connection, lambda _line: None, patience=timedelta())
        with pytest.raises(MigrationError, match=r"pid \d+, a long report, for \d+ s"):
            await asyncio.to_thread(
                steps.run_one_by_one, ["ALTER TABLE leads.row ADD COLUMN more text"]
            )


@pytest.mark.long
@pytest.mark.parametrize("insists", [True, False])
async def test_a_vacuum_of_the_servers_own_is_not_waited_for_in_the_end(*, insists: bool) -> None:
    with scratch_directory() as directory:
        async with EmbeddedPostgres(directory, fsync=False) as server:
            with psycopg.connect(server.dsn, autocommit=True) as connection:
                connection.execute("ALTER SYSTEM SET autovacuum_naptime = '1s'")
                connection.execute("SELECT pg_reload_conf()")
                connection.execute(TABLE)
                connection.execute(SLOW_VACUUM)

                async def vacuum_has_begun() -> bool:
                    cursor = connection.execute("SELECT FROM pg_stat_progress_vacuum")
                    return bool(cursor.rowcount)

                await eventually(vacuum_has_begun, within=timedelta(seconds=60))
                begun = timedelta() if insists else timedelta(hours=1)
                steps = Steps(
                    connection,
                    lambda _line: None,
                    insist_after=begun,
                    patience=timedelta(seconds=5),
                )
                statements = ["ALTER TABLE leads.row ADD COLUMN more text"]
                with nullcontext() if insists else pytest.raises(MigrationError, match="autovac"):
                    await asyncio.to_thread(steps.run_one_by_one, statements)


@pytest.mark.parametrize("defect", [2_000_000_000, None], ids=["fails", "is killed"])
async def test_chunks_go_on_where_they_were_interrupted(
    defect: int | None, migrations: Migrations, other: psycopg.AsyncConnection
) -> None:
    migrations.add("1", ONLINE + DOUBLED)
    await other.execute(KILLER)
    await other.execute(SET_NUMBER, [defect, MIDDLE])
    with pytest.raises(MigrationError):
        await migrations.run_aside()
    done = await count(other, DONE)
    assert 0 < done < ROWS
    await other.execute(SET_NUMBER, [1, MIDDLE])
    assert await migrations.run_aside() == ["1"]
    assert await count(other, DONE) == ROWS
    assert f"1: row: {ROWS:,} rows seen, {ROWS - done:,} changed" in migrations.lines


async def test_chunks_wait_for_a_row_and_let_others_be_written(
    migrations: Migrations, dsn: str, other: psycopg.AsyncConnection
) -> None:
    migrations.add("1", ONLINE + DOUBLED)
    async with await psycopg.AsyncConnection.connect(dsn) as writer:
        await writer.execute(SET_NUMBER, [7, MIDDLE])
        running = asyncio.create_task(migrations.run_aside())

        async def has_come_near() -> bool:
            return await count(other, DONE) > ROWS // 4

        await eventually(has_come_near)
        # Rows of a chunk that waits are not kept from others for as long.
        await other.execute("SET lock_timeout = '2s'")
        for _ in range(3):
            await other.execute(TOUCH, [BEFORE_MIDDLE])
        await writer.commit()
    assert await running == ["1"]
    assert await count(other, DONE) == ROWS


async def test_the_rest_of_an_index_that_failed_is_built_anew(
    migrations: Migrations, other: psycopg.AsyncConnection
) -> None:
    await other.execute("UPDATE leads.row SET number = 7 WHERE number = 8")
    migrations.add(
        "1", ONLINE + "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS one ON leads.row (number);"
    )
    with pytest.raises(MigrationError, match="could not create unique index"):
        await migrations.run_aside()
    valid = "SELECT count(*) FROM pg_index WHERE indexrelid = 'leads.one'::regclass AND indisvalid"
    assert await count(other, valid) == 0
    await other.execute("DELETE FROM leads.row WHERE number = 7")
    await migrations.run_aside()
    assert await count(other, valid) == 1


@pytest.mark.parametrize(
    "text",
    [
        "SELECT pg_sleep(0.3);",
        ONLINE + "ALTER TABLE leads.row ADD CHECK (leads.slow(number) > 0);",
        ONLINE
        + "CREATE INDEX CONCURRENTLY IF NOT EXISTS one ON leads.row (leads.slow(number))"
        + " WHERE number = 1;",
    ],
)
async def test_limits_for_requests_are_not_for_migrations(
    text: str, migrations: Migrations, other: psycopg.AsyncConnection
) -> None:
    await other.execute(SLOW)
    migrations.add("1", text)
    limits = "?options=-c%20statement_timeout%3D200%20-c%20lock_timeout%3D20"
    assert await asyncio.to_thread(migrations.run, limits) == ["1"]


async def test_of_two_at_once_one_does_all(
    migrations: Migrations, other: psycopg.AsyncConnection
) -> None:
    migrations.add("1", "ALTER TABLE leads.row ADD COLUMN more text;")
    migrations.add("2", ONLINE + DOUBLED)
    applied = await asyncio.gather(*(migrations.run_aside() for _ in range(3)))
    assert sorted(applied) == [[], [], ["1", "2"]]
    assert await count(other, DONE) == ROWS


async def test_what_a_select_returns_is_run_and_what_is_done_is_passed_over(
    migrations: Migrations, other: psycopg.AsyncConnection
) -> None:
    migrations.add("1", ONLINE + SELECTS)
    assert await migrations.run_aside() == ["1"]
    assert await count(other, DONE) == ROWS
    assert await migrations.run_aside() == []


async def count(connection: psycopg.AsyncConnection, query: LiteralString) -> int:
    row = await (await connection.execute(query)).fetchone()
    assert row is not None
    return int(row[0])


async def repeated(action: Callable[[], Awaitable[object]]) -> None:
    """Act until it fails."""
    for _ in range(1_000):
        await action()
