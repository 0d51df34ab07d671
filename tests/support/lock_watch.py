"""Who waits for the large tables, and for how long: a client that probes, and a look at locks."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, LiteralString, TypeAlias

import psycopg

PAUSE = 0.02

# With columns of the very first version.
_WRITE: LiteralString = """
    INSERT INTO leads.lead (
        id, first_name, last_name, email, email_key, source, created_at, updated_at
    )
    SELECT gen_random_uuid(), 'Probe', 'Probe', key, key, 'manual', now(), now()
    FROM (SELECT gen_random_uuid()::text AS key)
"""
_READ: LiteralString = "SELECT id FROM leads.lead ORDER BY created_at DESC, id DESC LIMIT 20"
# Locks that stop writers, and who waits but for migrations: one that builds an index stops nobody.
_LOCKS: LiteralString = """
    SELECT granted, concat_ws(' ', relation::regclass, mode, pid),
           extract(epoch FROM clock_timestamp() - waitstart)::float
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE relation IN ('leads.lead'::regclass, 'leads.event'::regclass) AND (
        (NOT granted AND application_name <> 'leads migrate') OR
        (granted AND mode = ANY(ARRAY[
            'AccessExclusiveLock', 'ExclusiveLock', 'ShareRowExclusiveLock', 'ShareLock'
        ]))
    )
"""

Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"


@dataclass(slots=True)
class Watch:
    """Seconds: the longest write or read, the longest wait for a lock, the longest one held."""

    longest_request: float = 0
    longest_wait: float = 0
    longest_lock: float = 0
    requests: int = 0
    errors: list[str] = field(default_factory=list[str])
    _since: dict[str, float] = field(default_factory=dict[str, float])

    def probe(self, connection: Connection) -> None:
        """Write a lead, and read the newest."""
        for statement in (_WRITE, _READ):
            began = time.monotonic()
            connection.execute(statement)
            self.longest_request = max(self.longest_request, time.monotonic() - began)
            self.requests += 1

    def look(self, connection: Connection) -> None:
        """See who has a lock and who waits for one."""
        moment = time.monotonic()
        since = self._since
        self._since = {}
        for granted, lock, waited in connection.execute(_LOCKS):
            if granted:
                self._since[lock] = since.get(lock, moment)
                self.longest_lock = max(self.longest_lock, moment - self._since[lock])
            else:
                self.longest_wait = max(self.longest_wait, waited or 0)


@contextmanager
def watching(dsn: str) -> Generator[Watch]:
    """Probe the table of leads, and look at locks, for the length of the block."""
    watch, ended = Watch(), threading.Event()

    def follow(step: Callable[[Connection], None]) -> None:
        try:
            with psycopg.connect(dsn, autocommit=True) as connection:
                while not ended.wait(PAUSE):
                    step(connection)
        except psycopg.Error as error:
            watch.errors.append(str(error))

    threads = [threading.Thread(target=follow, args=(step,)) for step in (watch.probe, watch.look)]
    for thread in threads:
        thread.start()
    try:
        yield watch
    finally:
        ended.set()
        for thread in threads:
            thread.join()
