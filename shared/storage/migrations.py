"""Bringing the database's schema up to date, by one process at a time."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg
import psycopg
import yoyo

from shared.events.envelope import now
from shared.storage.pool import Database

# What kind of PostgreSQL the leads are in, and how far its schema is.

_SERVER = """
    SELECT current_setting('server_version') AS version, pg_is_in_recovery() AS standby,
           current_setting('synchronous_commit') AS synchronous_commit,
           current_setting('fsync') = 'on' AS fsync,
           current_setting('max_connections')::int AS max_connections,
           (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')
               AS connections
"""
_APPLIED = "SELECT migration_id FROM leads._yoyo_migration"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresFacts:
    """What the server says of itself.

    `ahead` is by how much the server's clock is ahead of this host's, and `uncertainty` half
    the time that asking took. `missing` are migrations this version has and the schema not,
    `unknown` those that a newer version has applied.
    """

    version: str
    standby: bool
    synchronous_commit: str
    fsync: bool
    connections: int
    max_connections: int
    ahead: timedelta
    uncertainty: timedelta
    missing: tuple[str, ...]
    unknown: tuple[str, ...]


async def postgres_facts(database: Database) -> PostgresFacts:
    """Ask the server; raises `UnavailableError`."""
    known = _known_migrations(DIRECTORY)
    async with database.connection() as connection:
        await connection.execute("SELECT 1")  # connecting is not part of how long it takes
        asked = now()
        server_time = await connection.fetchval("SELECT clock_timestamp()")
        answered = now()
        server = await connection.fetchrow(_SERVER)
        try:
            applied = {row["migration_id"] for row in await connection.fetch(_APPLIED)}
        except asyncpg.UndefinedTableError:
            applied = set[str]()
    return PostgresFacts(
        **dict(server or {}),
        ahead=server_time - (asked + (answered - asked) / 2),
        uncertainty=(answered - asked) / 2,
        missing=tuple(sorted(known - applied)),
        unknown=tuple(sorted(applied - known)),
    )


def _known_migrations(directory: Path) -> set[str]:
    return {
        path.stem for path in directory.glob("*.sql") if not path.name.endswith(".rollback.sql")
    }


DIRECTORY = Path(__file__).parents[2] / "migrations"

# Any number will do, as long as nothing else in the database locks the same one.
LOCK = 7_305_801_992
LOCK_PATIENCE = timedelta(seconds=60)


class MigrationError(Exception):
    """The schema could not be brought up to date; the message says why."""


def migrate(dsn: str) -> list[str]:
    """Apply what is missing; returns the ids of the migrations applied now."""
    try:
        with (
            psycopg.connect(dsn, autocommit=True, connect_timeout=10) as connection,
            _locked(connection),
        ):
            # yoyo keeps its own tables where ours are: not in a schema that is published.
            connection.execute("CREATE SCHEMA IF NOT EXISTS leads")
            return _apply(dsn)
    except psycopg.Error as error:
        raise MigrationError(str(error).strip()) from error


@contextmanager
def _locked(connection: "psycopg.Connection[tuple[object, ...]]") -> Generator[None]:
    # Tried again and again rather than waited for: a session that waits holds a snapshot,
    # and CREATE INDEX CONCURRENTLY would wait for it in turn.
    give_up = time.monotonic() + LOCK_PATIENCE.total_seconds()
    while True:
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", [LOCK]).fetchone()
        if row is not None and row[0]:
            break
        if time.monotonic() > give_up:
            raise MigrationError("Another migration has been running for a minute")
        time.sleep(0.2)
    try:
        yield
    finally:
        connection.execute("SELECT pg_advisory_unlock(%s)", [LOCK])


def _apply(dsn: str) -> list[str]:
    backend = yoyo.get_backend(_yoyo_uri(dsn))
    try:
        # Whoever left this lock is dead: it would hold ours.
        backend.break_lock()
        pending = backend.to_apply(yoyo.read_migrations(str(DIRECTORY)))
        with backend.lock():
            backend.apply_migrations(pending)
        return [migration.id for migration in pending]
    finally:
        backend.connection.close()


def _yoyo_uri(dsn: str) -> str:
    parts = urlsplit(dsn)
    query = dict(parse_qsl(parts.query)) | {"schema": "leads"}
    return urlunsplit(parts._replace(scheme="postgresql+psycopg", query=urlencode(query)))
