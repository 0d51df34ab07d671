"""What PostgreSQL keeps for all processes, counted: what is held, parked, open, and done last."""

from dataclasses import dataclass
from datetime import datetime

from shared.storage.admin_log import AdminLog
from shared.storage.pool import Database

# When an entry was accepted is the first part of its id.
_HELD = """
    SELECT stream, layout, number, count(*) AS entries,
           extract(epoch FROM clock_timestamp())::float8
               - min(split_part(entry_id, '-', 1)::bigint) / 1000.0::float8 AS oldest
    FROM leads.held_entry WHERE attempt > 0 GROUP BY stream, layout, number
"""
_LETTERS = """
    SELECT stream, consumer_group, reason, count(*) AS letters
    FROM leads.dead_letter GROUP BY stream, consumer_group, reason
"""
# Each by an index: rows that have ended are many.
_OPEN = """
    SELECT 'summary' AS kind, count(*) AS open,
           extract(epoch FROM clock_timestamp() - min(requested_at))::float8 AS oldest
    FROM leads.summary WHERE state IN ('queued', 'running')
    UNION ALL
    SELECT 'sync', count(*), extract(epoch FROM clock_timestamp() - min(started_at))::float8
    FROM (
        SELECT state, started_at FROM leads.sync_run ORDER BY started_at DESC LIMIT 1000
    ) AS latest WHERE state = 'running'
"""
_LAST_SYNC = """
    SELECT finished_at FROM leads.sync_run WHERE state = 'succeeded'
    ORDER BY started_at DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCount:
    """How many entries a partition holds, and how many seconds ago the oldest was accepted."""

    stream: str
    layout: int
    number: int
    entries: int
    oldest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterTotal:
    """How many dead letters of a stream and group have a reason."""

    stream: str
    consumer_group: str
    reason: str
    letters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOperations:
    """How many operations of a kind have not ended; `oldest` in seconds, None without any."""

    kind: str
    open: int
    oldest: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedState:
    """What there is. `succeeded` is when each task did so last, as far as it ever did."""

    held: tuple[HeldCount, ...]
    letters: tuple[LetterTotal, ...]
    operations: tuple[OpenOperations, ...]
    succeeded: dict[str, datetime]


async def shared_state(database: Database) -> SharedState:
    """Ask for all of it."""
    async with database.connection() as connection:
        held = await connection.fetch(_HELD)
        letters = await connection.fetch(_LETTERS)
        operations = await connection.fetch(_OPEN)
        synced = await connection.fetchval(_LAST_SYNC)
    last = {"sync": synced, "backup": await AdminLog(database).last_ended("backup")}
    return SharedState(
        held=tuple(HeldCount(**row) for row in held),
        letters=tuple(LetterTotal(**row) for row in letters),
        operations=tuple(OpenOperations(**row) for row in operations),
        succeeded={task: at for task, at in last.items() if at is not None},
    )
