"""Applying the statements of a migration while services go on with their work.

No lock that others wait for is held long, and none is waited for long, since whoever comes later
queues behind who waits. What takes long takes no such lock, or is done in chunks.
"""

import itertools
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg import sql

Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"
Result = TypeVar("Result")

# How long a lock is waited for, one try after another. In between, whoever queued behind the last
# try gets on.
LOCK_TIMEOUTS = tuple(timedelta(milliseconds=ms) for ms in (100, 200, 400, 800))
PAUSE = timedelta(seconds=0.5)
# A vacuum that runs by itself is ended by who has waited for it a little longer than
# `deadlock_timeout` (1 s). If it does not end before, and others are kept waiting that much longer.
INSIST_AFTER = timedelta(minutes=1)
A_LITTLE = timedelta(milliseconds=200)
PATIENCE = timedelta(minutes=10)

# The most rows of a chunk, and how long a chunk may lock them: then the next one is smaller.
CHUNK_ROWS = 5_000
CHUNK_TIME = timedelta(seconds=0.25)
PROGRESS_INTERVAL = timedelta(seconds=5)

# Roles of platforms come with limits that are meant for requests.
_SETTINGS = """
    SELECT set_config('lock_timeout', %s, true), set_config('statement_timeout', '0', true),
           set_config('search_path', 'leads', true)
"""
_DEADLOCK_TIMEOUT = "SELECT setting::integer FROM pg_settings WHERE name = 'deadlock_timeout'"
_UNLIMITED = "SET lock_timeout = 0; SET statement_timeout = 0"

# What a migration is called among the server's sessions.
APPLICATION_NAME = "leads migrate"
_OLDEST_TRANSACTION = """
    SELECT pid, coalesce(nullif(application_name, ''), backend_type),
           extract(epoch FROM clock_timestamp() - xact_start)::integer
    FROM pg_stat_activity
    WHERE datname = current_database() AND application_name <> %s AND xact_start IS NOT NULL
    ORDER BY xact_start LIMIT 1
"""

_INDEX = re.compile(r"\bINDEX CONCURRENTLY IF (?:NOT )?EXISTS (?:leads\.)?(\w+)")
_IS_INVALID = "SELECT FROM pg_index WHERE indexrelid = to_regclass(%s) AND NOT indisvalid"

_CHUNKED = re.compile(r"\bUPDATE leads\.(\w+) .*\bchunk\.first\b", re.DOTALL)
# The texts of ids are in the order of the ids.
_CHUNK = """
    SELECT count(*), min(id::text COLLATE "C"), max(id::text COLLATE "C") FROM (
        SELECT id FROM leads.{} WHERE %(after)s::uuid IS NULL OR id > %(after)s::uuid
        ORDER BY id LIMIT %(size)s
    ) AS chunk
"""
_SET_CHUNK = "SELECT set_config('chunk.first', %s, true), set_config('chunk.last', %s, true)"
_ESTIMATE = "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = %s::regclass"


class MigrationError(Exception):
    """The schema could not be brought up to date; the message says why."""


@dataclass(slots=True)
class Progress:
    """Where the rows of a table have been looked at, and how many of them were changed."""

    after: str | None = None
    seen: int = 0
    changed: int = 0
    size: int = CHUNK_ROWS


class Steps:
    """Runs statements on a connection in autocommit; `tell` gets lines of progress."""

    def __init__(
        self,
        connection: Connection,
        tell: Callable[[str], None],
        *,
        insist_after: timedelta = INSIST_AFTER,
        patience: timedelta = PATIENCE,
    ) -> None:
        self._connection = connection
        self._tell = tell
        self._insist_after = insist_after
        self._patience = patience

    def run_together(self, statements: Iterable[str], *, then: Callable[[], None]) -> None:
        """Run all in one transaction, with `then` before it is committed."""

        def run() -> None:
            for statement in statements:
                self._execute(statement)
            then()

        self._politely(run)

    def run_one_by_one(self, statements: Iterable[str]) -> None:
        """Run each as it is meant; after an interruption all are run again.

        - A SELECT: what it returns are statements, and run in turn.
        - An UPDATE that asks for `chunk.first` and `chunk.last`: for one range of its table's `id`
          after the other, each in a transaction.
        - What works CONCURRENTLY: outside of any.
        - Everything else: in a transaction of its own.
        """
        for statement in statements:
            code = _without_comments(statement)
            if code.startswith("SELECT"):
                self.run_one_by_one(self._politely(partial(self._texts, code)))
            elif chunked := _CHUNKED.search(code):
                self._in_chunks(code, table=chunked[1])
            elif concurrently := _INDEX.search(code):
                self._concurrently(code, index=concurrently[1])
            else:
                self._politely(partial(self._execute, code))

    def _politely(self, work: Callable[[], Result]) -> Result:
        """Do it in a transaction, which gives up where it would have to wait, until it need not."""
        began = time.monotonic()
        for number in itertools.count():
            waited = timedelta(seconds=time.monotonic() - began)
            try:
                return self._try(work, self._lock_timeout(number, waited))
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
                if waited > self._patience:
                    raise MigrationError(f"{error}{self._who_is_in_the_way()}") from error
                if number == len(LOCK_TIMEOUTS):
                    self._tell(f"waits for a lock{self._who_is_in_the_way()}")
            time.sleep(PAUSE.total_seconds())
        raise AssertionError  # never: the count has no end

    def _lock_timeout(self, number: int, waited: timedelta) -> timedelta:
        if waited < self._insist_after:
            return LOCK_TIMEOUTS[min(number, len(LOCK_TIMEOUTS) - 1)]
        row = self._connection.execute(_DEADLOCK_TIMEOUT).fetchone()
        return timedelta(milliseconds=row[0] if row else 1_000) + A_LITTLE

    def _try(self, work: Callable[[], Result], lock_timeout: timedelta) -> Result:
        with self._connection.transaction():
            milliseconds = f"{lock_timeout // timedelta(milliseconds=1)}ms"
            self._connection.execute(_SETTINGS, [milliseconds])
            return work()

    def _who_is_in_the_way(self) -> str:
        row = self._connection.execute(_OLDEST_TRANSACTION, [APPLICATION_NAME]).fetchone()
        if row is None:
            return ""
        return f" (the oldest transaction: pid {row[0]}, {row[1]}, for {row[2]} s)"

    def _concurrently(self, statement: str, *, index: str) -> None:
        # What an earlier try has left of an index satisfies IF NOT EXISTS, and is of no use.
        if self._connection.execute(_IS_INVALID, [f"leads.{index}"]).rowcount:
            self._execute(f"DROP INDEX CONCURRENTLY leads.{index}")
        # Waits for older transactions, as long as it takes, and nobody waits for it.
        if _is_direct(self._connection):
            self._connection.execute(_UNLIMITED)
        self._tell(index)
        self._execute(statement)

    def _in_chunks(self, statement: str, *, table: str) -> None:
        progress = Progress()
        row = self._connection.execute(_ESTIMATE, [f"leads.{table}"]).fetchone()
        estimate = row[0] if row else 0
        told = time.monotonic()
        while self._next_chunk(statement, table, progress):
            if time.monotonic() - told > PROGRESS_INTERVAL.total_seconds():
                told = time.monotonic()
                self._tell(_words(table, progress, estimate))
        if progress.seen:
            self._tell(_words(table, progress, progress.seen))

    def _next_chunk(self, statement: str, table: str, progress: Progress) -> bool:
        """Returns whether there may be another one."""
        began = time.monotonic()
        try:
            rows = self._try(partial(self._chunk, statement, table, progress), LOCK_TIMEOUTS[0])
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            # A service works with one of the rows.
            progress.size = max(progress.size // 2, 1)
            time.sleep(PAUSE.total_seconds())
            return True
        took = time.monotonic() - began
        fitting = rows * CHUNK_TIME.total_seconds() / max(took, 0.001)
        is_last = rows < progress.size
        progress.size = max(min(int(fitting), progress.size * 2, CHUNK_ROWS), 1)
        return not is_last

    def _chunk(self, statement: str, table: str, progress: Progress) -> int:
        """Returns how many rows were looked at."""
        query = sql.SQL(_CHUNK).format(sql.Identifier(table))
        parameters = {"after": progress.after, "size": progress.size}
        row = self._connection.execute(query, parameters).fetchone()
        rows, first, last = row or (0, None, None)
        if rows:
            self._connection.execute(_SET_CHUNK, [first, last])
            changed = self._execute(statement).rowcount
            progress.after = last
            progress.seen += rows
            progress.changed += changed
        return int(rows)

    def _texts(self, query: str) -> list[str]:
        return [str(text) for (text,) in self._execute(query)]

    def _execute(self, statement: str) -> "psycopg.Cursor[tuple[Any, ...]]":
        return self._connection.execute(statement.encode())


def _without_comments(statement: str) -> str:
    lines = (line for line in statement.splitlines() if not line.lstrip().startswith("--"))
    return "\n".join(lines).strip()


def _is_direct(connection: Connection) -> bool:
    """Whether no pooler stands in between: it would tell a process id of its own."""
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return row is not None and row[0] == connection.info.backend_pid


def _words(table: str, progress: Progress, estimate: int) -> str:
    share = f" of about {estimate:,}" if estimate > progress.seen else ""
    return f"{table}: {progress.seen:,}{share} rows seen, {progress.changed:,} changed"
