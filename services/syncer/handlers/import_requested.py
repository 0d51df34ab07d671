"""import-requested: write the rows of a file, part by part, and keep an exact report."""

import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import structlog

from services.syncer.import_file import check_file, kept_lines
from shared.domain.errors import PermanentError, UnfinishedError
from shared.events.envelope import Event
from shared.events.import_events import ImportRequested
from shared.events.outcome import Outcome, OutcomeStatus
from shared.lead_files.columns import Layout
from shared.lead_files.dry_run import DryRun
from shared.lead_files.importing import ImportReport, Step, WriteRows, import_rows
from shared.lead_files.reading import read_rows
from shared.lead_files.row_events import Import, RowEvents
from shared.storage.import_repository import ImportRepository
from shared.storage.inbox import EventRecord, EventStore
from shared.streams.imports import ImportFiles, ImportJobs, ImportProgress

log = structlog.get_logger(__name__)

# How long one delivery works: well within a shutdown's deadline, and no longer than other
# imports should wait.
PART = timedelta(seconds=5)


class ImportRequestedHandler:
    """Does an import once, however often and wherever its event is delivered."""

    def __init__(
        self,
        files: ImportFiles,
        jobs: ImportJobs,
        imports: ImportRepository,
        events: EventStore,
        *,
        part: timedelta = PART,
    ) -> None:
        self._files = files
        self._jobs = jobs
        self._imports = imports
        self._events = events
        self._part = part

    async def __call__(self, events: Sequence[Event[ImportRequested]]) -> Sequence[Outcome]:
        """Go on with each import; raises `UnfinishedError` when there is more to do."""
        return [await self._go_on(event) for event in events]

    async def _go_on(self, event: Event[ImportRequested]) -> Outcome:
        record = EventRecord.of(event)
        outcome = await self._imports.find(record)
        if outcome is None:
            status, detail = await self._work(event)
            outcome = await self._imports.end(record, status, detail)
            log.info("import.ended", import_id=str(event.id), outcome=status, **detail["progress"])
        await self._files.remove_file(event.id)
        await self._jobs.remove_progress(event.id)
        return outcome

    async def _work(self, event: Event[ImportRequested]) -> tuple[OutcomeStatus, dict[str, Any]]:
        """Return the end of the import and its report."""
        give_up = time.monotonic() + self._part.total_seconds()
        progress = await self._jobs.progress(event.id) or ImportProgress()
        await self._files.keep(event.id)
        try:
            # Each time: a file that lost its end meanwhile would pass for one that is done.
            await check_file(self._files, event.id, sha256=event.data.sha256)
            async with contextlib.aclosing(self._steps(event, progress)) as steps:
                async for step in steps:
                    progress = await self._advance(event, step, after=progress.position)
                    if time.monotonic() > give_up:
                        raise UnfinishedError("More rows are to be written")
        except PermanentError as error:
            reason = {"code": error.code, "detail": str(error), **error.details}
            return OutcomeStatus.FAILED, _told(event, progress) | reason
        return OutcomeStatus.IMPORTED, _told(event, progress)

    def _steps(
        self, event: Event[ImportRequested], progress: ImportProgress
    ) -> AsyncGenerator[Step]:
        data = event.data
        rows = read_rows(
            kept_lines(self._files, event.id),
            data.format,
            Layout(mapping=data.mapping, mode=data.mode),
            after=progress.position,
        )
        report = ImportReport(**progress.counts)
        return import_rows(rows, self._writer(event), report=report)

    def _writer(self, event: Event[ImportRequested]) -> WriteRows:
        data = event.data
        if data.dry_run:
            return DryRun(self._imports, data.mode).write
        of = Import(
            id=event.id,
            mode=data.mode,
            created_by=data.requested_by,
            source="syncer",
            correlation_id=event.correlation_id,
        )
        return RowEvents(self._jobs, self._events, of, patience=self._part).write

    async def _advance(
        self, event: Event[ImportRequested], step: Step, *, after: int
    ) -> ImportProgress:
        if step.report.unknown:
            raise UnfinishedError("Rows wait in the stream to be written")
        progress = ImportProgress(step.position, _counts(step.report))
        problems = b"".join(problem.line() for problem in step.problems)
        if not await self._jobs.advance(event.id, progress, after=after, problems=problems):
            raise UnfinishedError("Another process has gone on with it")
        return progress


def _told(event: Event[ImportRequested], progress: ImportProgress) -> dict[str, Any]:
    """Return what is kept of an import that ends."""
    return {
        "dryRun": event.data.dry_run,
        "progress": progress.counts or _counts(ImportReport()),
    }


def _counts(report: ImportReport) -> dict[str, int]:
    counts = asdict(report)
    del counts["unknown"]
    return counts
