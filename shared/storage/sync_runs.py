"""Runs of the sync with the external source, one row each."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

import asyncpg

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
    SET state = $2, event_ids = $3, fetched = $4, invalid = $5, error = $6,
        counted_until = clock_timestamp() + $7::interval, finished_at = clock_timestamp(),
        seconds = extract(epoch FROM clock_timestamp() - started_at)
    WHERE id = $1
"""
# By ids, so that the results of no other runs are counted than those that are asked for.
_REPORTS = """
    SELECT id, requested_by, started_at, finished_at,
           state, fetched, created, duplicate, invalid, unknown, error
    FROM leads.sync_report WHERE id = ANY ($1) ORDER BY started_at DESC, id DESC
"""
_PAGE = """
    SELECT id FROM leads.sync_run WHERE (started_at, id) < ($2, $3)
    ORDER BY started_at DESC, id DESC LIMIT $1
"""
# A first page begins where nothing is newer: so one statement, and one plan, serves every page.
_NEWEST = (datetime(9999, 12, 31, tzinfo=UTC), UUID(int=2**128 - 1))
_STATE = "SELECT state FROM leads.sync_run WHERE id = $1"


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """How many leads a run fetched, and how many had which outcome when that was read.

    `unknown` counts those that have none yet: they land later.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncRun:
    """A run as it is kept; who asked for it and its times are None while it is pending.

    It has finished when its leads are published, and goes on running until they have outcomes.
    """

    id: UUID
    state: SyncState = SyncState.PENDING
    requested_by: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    report: SyncReport = SyncReport()


POLL = timedelta(milliseconds=100)


class SyncRunRepository:
    """Reads and writes sync runs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, run_id: UUID, *, requested_by: str) -> bool:
        """Begin a run, or one that died again; False when it has ended already."""
        async with self._database.connection() as connection:
            return await connection.fetchval(_BEGIN, run_id, requested_by) is not None

    async def finish(
        self,
        run_id: UUID,
        event_ids: Sequence[UUID] = (),
        *,
        invalid: int = 0,
        error: str | None = None,
        counted_within: timedelta,
    ) -> None:
        """Write a run's end: what it published, and how long to wait for the outcomes of that."""
        async with self._database.connection() as connection:
            await connection.execute(
                _FINISH,
                run_id,
                SyncState.SUCCEEDED if error is None else SyncState.FAILED,
                list(event_ids),
                len(event_ids) + invalid,
                invalid,
                error,
                counted_within,
            )

    async def has_ended(self, run_id: UUID) -> bool:
        """Return whether a run is over."""
        async with self._database.connection() as connection:
            state = await connection.fetchval(_STATE, run_id)
        return state is not None and state != "running"

    async def find_run(self, run_id: UUID) -> SyncRun | None:
        """Return a run that has begun, with its outcomes counted now."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_REPORTS, [run_id])
        return next(map(_run, rows), None)

    async def latest(
        self, *, limit: int, before: tuple[datetime, UUID] | None = None
    ) -> list[SyncRun]:
        """Return runs that have begun, newest first; `before` is a run's beginning and its id."""
        async with self._database.connection() as connection:
            page = await connection.fetch(_PAGE, limit, *(before or _NEWEST))
            rows = await connection.fetch(_REPORTS, [row["id"] for row in page])
        return [_run(row) for row in rows]

    async def await_end(self, run_id: UUID, *, within: timedelta) -> SyncRun | None:
        """Return a run once it is over, or as it is after `within`; None when it has not begun."""
        give_up = time.monotonic() + within.total_seconds()
        while True:
            run = await self.find_run(run_id)
            is_over = run is not None and run.state is not SyncState.RUNNING
            if is_over or time.monotonic() > give_up:
                return run
            await asyncio.sleep(POLL.total_seconds())


def _run(record: asyncpg.Record) -> SyncRun:
    row = dict(record)
    report = SyncReport(**{field.name: row.pop(field.name) for field in fields(SyncReport)})
    # The driver has a type of UUID of its own, which orjson does not know.
    run_id, state = UUID(int=row.pop("id").int), SyncState(row.pop("state"))
    return SyncRun(id=run_id, state=state, report=report, **row)
