"""Bringing the database's schema up to date, by one process at a time."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, LiteralString, cast

import psycopg
import yoyo
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import DatabaseURI
from yoyo.migrations import read_sql_migration

from shared.connection_strings import parse_postgres_address
from shared.storage.migrations.known import DIRECTORY, known_migrations
from shared.storage.migrations.steps import APPLICATION_NAME, Connection, MigrationError, Steps

# Any number that nothing else in the database locks.
LOCK = 7_305_801_992
# Of a large database, a migration may take long; who waits for it does no harm.
LOCK_TIMEOUT = timedelta(hours=1)
CONNECT_TIMEOUT = timedelta(seconds=10)
POLL = timedelta(seconds=1)

# Nothing in the lock's transaction has parameters: a query that has some stays open, and with it
# the snapshot that CREATE INDEX CONCURRENTLY waits for, until the session's next statement.
_TRY_LOCK = f"SELECT pg_try_advisory_xact_lock({LOCK})".encode()
# The lock's transaction is idle as long as migrations take. PostgreSQL 17 can end it for that, too.
_NO_TIMEOUTS = """
    SELECT set_config(name, '0', true) FROM pg_settings
    WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')
"""

# yoyo keeps its own tables where ours are: not in a schema that is published.
SCHEMA = "leads"


def migrate(
    dsn: str, tell: Callable[[str], None] = lambda _line: None, *, directory: Path = DIRECTORY
) -> list[str]:
    """Apply what is missing, while services go on; returns the ids of the migrations applied now.

    Through a pooler too: nothing that is set or locked outlasts a transaction. `tell` gets a line
    for what begins, and for what takes long every few seconds. Raises `MigrationError`; what was
    done until then stays, and the next one goes on with it.
    """
    options = _options(dsn)
    try:
        with psycopg.connect(**options) as connection:
            if known_migrations(directory) <= _applied(connection):
                return []
            with _locked(connection, tell):
                # Even to be told that a schema exists takes the right to make one.
                if not _exists(connection, "to_regnamespace", "leads"):
                    _make_schema(options)
                return _apply(options, tell, directory)
    except psycopg.Error as error:
        raise MigrationError(str(error).strip()) from error


def await_schema(dsn: str) -> bool:
    """Return once all migrations are applied by another process; False if there is no answer.

    That is not waited for: services wait themselves, and an API without PostgreSQL still accepts
    writes. Raises `MigrationError` where the schema cannot be looked at.
    """
    try:
        while not _is_complete(dsn):
            time.sleep(POLL.total_seconds())
    except psycopg.OperationalError:
        return False
    except psycopg.Error as error:
        raise MigrationError(str(error).strip()) from error
    return True


def _is_complete(dsn: str) -> bool:
    with psycopg.connect(**_options(dsn)) as connection:
        return known_migrations() <= _applied(connection)


def _options(dsn: str) -> dict[str, Any]:
    """Return the driver's options."""
    address = parse_postgres_address(dsn)
    return {
        "host": ",".join(address.hosts),
        "port": ",".join(map(str, address.ports)),
        "user": address.user,
        "password": address.password,
        "dbname": address.database,
        **address.options,
        "application_name": APPLICATION_NAME,
        "connect_timeout": int(CONNECT_TIMEOUT.total_seconds()),
        "autocommit": True,
        "prepare_threshold": None,  # a pooler may know no prepared statements
    }


def _exists(connection: Connection, look_up: LiteralString, name: LiteralString) -> bool:
    row = connection.execute(f"SELECT {look_up}('{name}') IS NOT NULL").fetchone()
    return row is not None and bool(row[0])


def _applied(connection: Connection) -> set[str]:
    if not _exists(connection, "to_regclass", "leads._yoyo_migration"):
        return set()
    rows = connection.execute("SELECT migration_id FROM leads._yoyo_migration")
    return {str(row[0]) for row in rows}


def _make_schema(options: dict[str, Any]) -> None:
    with psycopg.connect(**options) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS leads")


@contextmanager
def _locked(connection: Connection, tell: Callable[[str], None]) -> Generator[None]:
    # Tried again and again rather than waited for: who waits holds a snapshot, and CREATE INDEX
    # CONCURRENTLY would wait for it in turn.
    give_up = time.monotonic() + LOCK_TIMEOUT.total_seconds()
    is_told = False
    while True:
        with connection.transaction():
            connection.execute(_NO_TIMEOUTS)
            row = connection.execute(_TRY_LOCK).fetchone()
            if row is not None and row[0]:
                yield
                return
        if time.monotonic() > give_up:
            raise MigrationError("Another migration has been running for an hour")
        if not is_told:
            tell("Another migration is running: waiting for its end")
            is_told = True
        time.sleep(0.2)


def _apply(options: dict[str, Any], tell: Callable[[str], None], directory: Path) -> list[str]:
    address = DatabaseURI("postgresql", None, None, None, None, None, options)
    backend = _Backend(address, _Backend.migrations)
    try:
        backend.init_database()
        # A process that left this lock is dead: one that lives would hold ours.
        backend.break_lock()
        applied: list[str] = []
        pending: Any = backend.to_apply(yoyo.read_migrations(str(directory)))
        for migration in pending:
            _apply_one(backend, migration, tell)
            applied.append(migration.id)
        return applied
    finally:
        backend.connection.close()


def _apply_one(backend: "_Backend", migration: Any, tell: Callable[[str], None]) -> None:
    """Apply a migration, and note it in the same transaction, or after it is all done."""

    def note() -> None:
        backend.mark_one(migration, log=False)
        backend.log_migration(migration, "apply")

    tell(migration.id)
    connection = cast("Connection", backend.connection)
    steps = Steps(connection, lambda line: tell(f"{migration.id}: {line}"))
    directives, _, statements = read_sql_migration(migration.path)
    if directives.get("transactional") == "false":
        steps.run_one_by_one(statements)
        statements = []
    steps.run_together(statements, then=note)


class _Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]  # yoyo has no types
    """yoyo's, but for its search path, which would be left behind in a pooler's session."""

    log_table = f"{SCHEMA}._yoyo_log"
    lock_table = f"{SCHEMA}.yoyo_lock"
    version_table = f"{SCHEMA}._yoyo_version"
    migrations = f"{SCHEMA}._yoyo_migration"

    def connect(self, dburi: DatabaseURI) -> Connection:
        options = cast("dict[str, Any]", dburi.args)
        return psycopg.connect(**options)

    def begin(self) -> None:
        super().begin()
        self.execute(f"SET LOCAL search_path TO {SCHEMA}")

    def quote_identifier(self, s: str) -> str:
        return ".".join(f'"{part}"' for part in s.split("."))

    def list_tables(self, **_parameters: Any) -> list[str]:
        tables = cast(
            "list[tuple[str]]", self.execute(self.list_tables_sql, {"schema": SCHEMA}).fetchall()
        )
        return [f"{SCHEMA}.{name}" for (name,) in tables]

    def _check_transactional_ddl(self) -> bool:
        return True
