"""Bringing the database's schema up to date, by one process at a time."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import psycopg
import yoyo

DIRECTORY = Path(__file__).parents[2] / "migrations"

# Any number that nothing else in the database locks.
LOCK = 7_305_801_992
LOCK_TIMEOUT = timedelta(seconds=60)


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


def known_migrations() -> set[str]:
    """Return the ids of the migrations that this version has."""
    return {
        path.stem for path in DIRECTORY.glob("*.sql") if not path.name.endswith(".rollback.sql")
    }


@contextmanager
def _locked(connection: "psycopg.Connection[tuple[object, ...]]") -> Generator[None]:
    # Tried again and again rather than waited for: a session that waits holds a snapshot,
    # and CREATE INDEX CONCURRENTLY would wait for it in turn.
    give_up = time.monotonic() + LOCK_TIMEOUT.total_seconds()
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
        # A process that left this lock is dead: one that lives would hold ours.
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
