"""Runs of the sync with the external source, one row each."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from shared.storage.pool import Database

# The row is the run's claim on its event: a second delivery of it finds the row. A run that
# never ended (its process died) is begun again by the process that gets the event next.
_BEGIN = """
    INSERT INTO leads.sync_run (id, requested_by, state, started_at)
    VALUES ($1, $2, 'running', clock_timestamp())
    ON CONFLICT (id) DO UPDATE SET started_at = clock_timestamp()
    WHERE sync_run.state = 'running'
    RETURNING id
"""
_FINISH = """
    UPDATE leads.sync_run
    SET state = $2, fetched = $3, created = $4, duplicate = $5, invalid = $6, unknown = $7,
        error = $8, finished_at = clock_timestamp(),
        seconds = extract(epoch FROM clock_timestamp() - started_at)
    WHERE id = $1
"""
_FIND = """
    SELECT state, fetched, created, duplicate, invalid, unknown, error
    FROM leads.sync_run WHERE id = $1
"""
_STATE = "SELECT state FROM leads.sync_run WHERE id = $1"


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """How many leads a run fetched, and how many had which outcome.

    `unknown` counts those whose outcome did not come in time; they land later.
    """

    fetched: int = 0
    created: int = 0
    duplicate: int = 0
    invalid: int = 0
    unknown: int = 0
    error: str | None = None


class SyncState(StrEnum):
    """How far a run has come. One that is pending has no row yet."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class SyncRun:
    """A run as it is kept."""

    id: UUID
    state: SyncState
    report: SyncReport


class SyncRunRepository:
    """Reads and writes sync runs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, run_id: UUID, *, requested_by: str) -> bool:
        """Begin a run, or one that died again; False when it has ended already."""
        async with self._database.connection() as connection:
            return await connection.fetchval(_BEGIN, run_id, requested_by) is not None

    async def finish(self, run_id: UUID, report: SyncReport) -> None:
        """Write a run's end."""
        async with self._database.connection() as connection:
            await connection.execute(
                _FINISH,
                run_id,
                "succeeded" if report.error is None else "failed",
                report.fetched,
                report.created,
                report.duplicate,
                report.invalid,
                report.unknown,
                report.error,
            )

    async def has_ended(self, run_id: UUID) -> bool:
        """Tell whether a run is over."""
        async with self._database.connection() as connection:
            state = await connection.fetchval(_STATE, run_id)
        return state is not None and state != "running"

    async def find(self, run_id: UUID) -> SyncRun | None:
        """Return a run that has begun."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_FIND, run_id)
        if row is None:
            return None
        figures = dict(row)
        state = SyncState(figures.pop("state"))
        return SyncRun(run_id, state, SyncReport(**figures))
