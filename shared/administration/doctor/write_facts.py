"""What keeps PostgreSQL from writes of leads: locks, what is held, and the server itself."""

from dataclasses import dataclass
from datetime import timedelta

from shared.storage.pool import Database

# Of the tables and of what waits for them; no table of ours is read, as it may be locked.
_BLOCKERS = """
    WITH blocking AS (
        SELECT DISTINCT unnest(pg_blocking_pids(pid)) AS pid FROM pg_stat_activity
        WHERE application_name = 'leads' AND wait_event_type = 'Lock'
        UNION
        SELECT pg_locks.pid FROM pg_locks JOIN pg_class ON pg_class.oid = relation
        WHERE relnamespace = to_regnamespace('leads') AND granted
          AND mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
    )
    SELECT pid, coalesce(application_name, '') AS application, coalesce(state, '') AS state,
           clock_timestamp() - xact_start AS age,
           (SELECT count(*) FROM pg_stat_activity AS other
            WHERE blocking.pid = ANY(pg_blocking_pids(other.pid))) AS waiting
    FROM blocking JOIN pg_stat_activity USING (pid)
    WHERE pid <> pg_backend_pid() AND xact_start < clock_timestamp() - $1::interval
    ORDER BY xact_start
"""
# A dump reads for as long as it takes; one that waits for its client is another thing.
_LONG = """
    SELECT pid, coalesce(application_name, '') AS application, state,
           clock_timestamp() - xact_start AS age, backend_xid IS NOT NULL AS has_written
    FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend'
      AND pid <> pg_backend_pid() AND xact_start < clock_timestamp() - $1::interval
      AND (backend_xid IS NOT NULL OR state LIKE 'idle in transaction%')
    ORDER BY xact_start LIMIT 5
"""
_INVALID = """
    SELECT indexrelid::regclass::text AS name FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
    WHERE NOT indisvalid AND relnamespace = to_regnamespace('leads')
      AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index AS made
                      WHERE made.index_relid = indexrelid)
    ORDER BY name
"""
_HELD = """
    SELECT stream, count(*) AS entries, count(DISTINCT key) AS keys, max(attempt) AS attempt,
           (array_agg(DISTINCT coalesce(subject, key)))[:3] AS examples
    FROM leads.held_entry WHERE attempt > 0 GROUP BY stream ORDER BY stream
"""
# Too long and too random to fit into what is free in a page: the file must grow.
_WRITE = """
    INSERT INTO leads.admin_action (actor, action, detail)
    SELECT 'doctor', 'probe', jsonb_build_object(
        'padding', string_agg(md5(random()::text), '')
    ) FROM generate_series(1, $1::int)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocker:
    """A session that others wait for, or that has locked a table; `age` is its transaction's."""

    pid: int
    application: str
    state: str
    age: timedelta
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldFacts:
    """What is held in a stream: entries of how many keys, and the most attempts of one of them.

    `examples` are leads, or keys where no lead is known.
    """

    stream: str
    entries: int
    keys: int
    attempt: int
    examples: tuple[str, ...]


async def blockers(database: Database, *, older: timedelta) -> list[Blocker]:
    """Return the sessions whose transactions are older than that and keep writes waiting."""
    async with database.connection() as connection:
        rows = await connection.fetch(_BLOCKERS, older)
    return [Blocker(**row) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class LongTransaction:
    """A session whose transaction has been open for `age`."""

    pid: int
    application: str
    state: str
    age: timedelta
    has_written: bool


async def long_transactions(database: Database, *, older: timedelta) -> list[LongTransaction]:
    """Return some sessions that keep a transaction open, the oldest first."""
    async with database.connection() as connection:
        rows = await connection.fetch(_LONG, older)
    return [LongTransaction(**row) for row in rows]


async def invalid_indexes(database: Database) -> list[str]:
    """Return the indexes of the schema that are not valid, and not being made now."""
    async with database.connection() as connection:
        rows = await connection.fetch(_INVALID)
    return [row["name"] for row in rows]


async def held_facts(database: Database) -> list[HeldFacts]:
    """Return what waits for another attempt, by stream."""
    async with database.connection() as connection:
        rows = await connection.fetch(_HELD)
    return [
        HeldFacts(
            stream=row["stream"],
            entries=row["entries"],
            keys=row["keys"],
            attempt=row["attempt"],
            examples=tuple(row["examples"]),
        )
        for row in rows
    ]


async def write_and_undo(database: Database, *, length: int = 1_000) -> None:
    """Write something and take it back. Raises `TransientError` with what the server says.

    What is short may fit into a page that is there, on a disk that is full.
    """
    async with database.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute("SET LOCAL lock_timeout = '1s'")
            await connection.execute(_WRITE, length)
        finally:
            await transaction.rollback()
