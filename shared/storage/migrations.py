"""Bringing the database's schema up to date, by one process at a time."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, LiteralString, TypeAlias, cast

import psycopg
import yoyo
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import DatabaseURI

from shared.connection_strings import parse_postgres_address

DIRECTORY = Path(__file__).parents[2] / "migrations"

# Any number that nothing else in the database locks.
LOCK = 7_305_801_992
LOCK_TIMEOUT = timedelta(seconds=60)
CONNECT_TIMEOUT = timedelta(seconds=10)
POLL = timedelta(seconds=1)

Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

# yoyo keeps its own tables where ours are: not in a schema that is published.
SCHEMA = "leads"


class MigrationError(Exception):
    """The schema could not be brought up to date; the message says why."""


def migrate(dsn: str) -> list[str]:
    """Apply what is missing; returns the ids of the migrations applied now.

    Through a pooler too: nothing that is set or locked outlasts a transaction.
    """
    options = _options(dsn)
    try:
        with psycopg.connect(**options) as connection:
            if known_migrations() <= _applied(connection):
                return []
            with _locked(connection):
                # Even to be told that a schema exists takes the right to make one.
                if not _exists(connection, "to_regnamespace", SCHEMA):
                    _make_schema(options)
                return _apply(options)
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


def known_migrations() -> set[str]:
    """Return the ids of the migrations that this version has."""
    return {
        path.stem for path in DIRECTORY.glob("*.sql") if not path.name.endswith(".rollback.sql")
    }


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
        "connect_timeout": int(CONNECT_TIMEOUT.total_seconds()),
        "autocommit": True,
        "prepare_threshold": None,  # a pooler may know no prepared statements
    }


def _exists(connection: Connection, look_up: LiteralString, name: str) -> bool:
    row = connection.execute(f"SELECT {look_up}(%s) IS NOT NULL", [name]).fetchone()
    return row is not None and bool(row[0])


def _applied(connection: Connection) -> set[str]:
    if not _exists(connection, "to_regclass", _Backend.migrations):
        return set()
    rows = connection.execute("SELECT migration_id FROM leads._yoyo_migration")
    return {str(row[0]) for row in rows}


def _make_schema(options: dict[str, Any]) -> None:
    with psycopg.connect(**options) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS leads")


@contextmanager
def _locked(connection: Connection) -> Generator[None]:
    # Tried again and again rather than waited for: who waits holds a snapshot, and CREATE INDEX
    # CONCURRENTLY would wait for it in turn.
    give_up = time.monotonic() + LOCK_TIMEOUT.total_seconds()
    while True:
        with connection.transaction():
            connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            row = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK]).fetchone()
            if row is not None and row[0]:
                yield
                return
        if time.monotonic() > give_up:
            raise MigrationError("Another migration has been running for a minute")
        time.sleep(0.2)


def _apply(options: dict[str, Any]) -> list[str]:
    address = DatabaseURI("postgresql", None, None, None, None, None, options)
    backend = _Backend(address, _Backend.migrations)
    try:
        backend.init_database()
        # A process that left this lock is dead: one that lives would hold ours.
        backend.break_lock()
        pending: Any = backend.to_apply(yoyo.read_migrations(str(DIRECTORY)))
        with backend.lock():
            backend.apply_migrations(pending)
        return [migration.id for migration in pending]
    finally:
        backend.connection.close()


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
