"""import-requested: write the rows of a file, part by part, and keep an exact report."""

import asyncio
import contextlib
import hashlib
import io
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from types import MappingProxyType
from typing import Any, cast
from uuid import UUID

import structlog

from services.syncer.imports import RowEnd, Step, import_rows
from services.syncer.row_events import Import, RowEvents
from services.syncer.storage.imports import ImportRepository
from shared.domain.errors import PermanentError, UnfinishedError
from shared.domain.lead_file import ImportMode, ImportReport
from shared.events.data import ImportRequested
from shared.events.envelope import Event
from shared.events.lead_fields import LeadFields
from shared.events.outcome import Outcome, OutcomeStatus
from shared.lead_files import Layout, Row, read_rows
from shared.spreadsheets import lines_of, open_text
from shared.storage.inbox import EventRecord, EventStore
from shared.storage.lead_document import LeadRepository
from shared.streams.consuming.subscription import Handler
from shared.streams.imports import ImportFiles, ImportJobs, ImportProgress

log = structlog.get_logger(__name__)

# How long one delivery works: well within a shutdown's deadline, and no longer than other
# imports should wait.
PART = timedelta(seconds=5)


class ImportRequestedHandler:
    """Does an import once, however often and wherever its event is delivered.

    What rows ask for is applied by `handlers`, by event type; without these it is published.
    """

    def __init__(
        self,
        files: ImportFiles,
        jobs: ImportJobs,
        imports: ImportRepository,
        events: EventStore,
        leads: LeadRepository,
        *,
        handlers: Mapping[str, Handler] = MappingProxyType({}),
        part: timedelta = PART,
    ) -> None:
        self._files = files
        self._jobs = jobs
        self._imports = imports
        self._events = events
        self._leads = leads
        self._handlers = handlers
        self._part = part

    async def __call__(self, events: Sequence[Event[ImportRequested]]) -> Sequence[Outcome]:
        """Go on with each import; raises `UnfinishedError` when there is more to do."""
        return [await self._go_on(event) for event in events]

    async def _go_on(self, event: Event[ImportRequested]) -> Outcome:
        record = EventRecord.of(event)
        outcome = await self._imports.find_end(record)
        if outcome is None:
            status, detail = await self._work(event)
            outcome = await self._imports.write_end(record, status, detail)
            log.info("import.ended", import_id=str(event.id), outcome=status, **detail["progress"])
        await self._files.remove_file(event.id)
        await self._jobs.remove_progress(event.id)
        return outcome

    async def _work(self, event: Event[ImportRequested]) -> tuple[OutcomeStatus, dict[str, Any]]:
        """Return the end of the import and its report."""
        until = time.monotonic() + self._part.total_seconds()
        progress = await self._jobs.progress(event.id) or ImportProgress()
        await self._files.keep(event.id)
        try:
            # Each time: a file that lost its end meanwhile would pass for one that is done.
            await _check_file(self._files, event.id, sha256=event.data.sha256)
            async with contextlib.aclosing(self._steps(event, progress, until=until)) as steps:
                async for step in steps:
                    progress = await self._advance(event, step, before=progress)
        except PermanentError as error:
            reason = {"code": error.code, "detail": str(error), **error.details}
            return OutcomeStatus.FAILED, _detail(event, progress) | reason
        return OutcomeStatus.IMPORTED, _detail(event, progress)

    def _steps(
        self, event: Event[ImportRequested], progress: ImportProgress, *, until: float
    ) -> AsyncGenerator[Step]:
        data = event.data
        rows = read_rows(
            _kept_lines(self._files, event.id, charset=data.charset),
            data.format,
            Layout(mapping=data.mapping, mode=data.mode),
            after=progress.position,
        )
        report = ImportReport(**progress.counts)
        if data.dry_run:
            write = DryRun(self._imports, data.mode).write
            return import_rows(rows, write, report=report, until=until)
        events = self._row_events(event)
        return import_rows(rows, events.write, report=report, until=until, holders=events.holders)

    def _row_events(self, event: Event[ImportRequested]) -> RowEvents:
        data = event.data
        of = Import(
            id=event.id,
            mode=data.mode,
            created_by=data.requested_by,
            correlation_id=event.correlation_id,
        )
        return RowEvents(
            self._jobs,
            self._imports,
            self._events,
            self._leads,
            of,
            handlers=self._handlers,
            timeout=self._part,
        )

    async def _advance(
        self, event: Event[ImportRequested], step: Step, *, before: ImportProgress
    ) -> ImportProgress:
        passed_over = step.passed_over.union(before.passed_over)
        progress = ImportProgress(step.position, asdict(step.report), tuple(sorted(passed_over)))
        problems = b"".join(problem.line() for problem in step.problems)
        if not await self._jobs.advance(
            event.id, progress, after=before.position, problems=problems
        ):
            raise UnfinishedError("Another process has gone on with it")
        return progress


class DryRun:
    """Writes nothing. Rows are held against stored leads, and not against each other."""

    def __init__(self, imports: ImportRepository, mode: ImportMode) -> None:
        self._imports = imports
        self._mode = mode

    async def write(self, rows: Sequence[Row]) -> list[RowEnd]:
        """Return the end that each row would have."""
        leads = [(UUID(int=row.number), cast("LeadFields", row.lead), row.lead_id) for row in rows]
        conflicts = await self._imports.find_conflicts(leads)
        return [self._end(row, conflicts.get(UUID(int=row.number))) for row in rows]

    def _end(self, row: Row, conflict: dict[str, str] | None) -> RowEnd:
        is_known = conflict is not None and conflict["field"] == "externalId"
        if self._mode is ImportMode.UPSERT and is_known:
            return RowEnd(OutcomeStatus.UPDATED)
        if row.lead_id is not None:
            return RowEnd(OutcomeStatus.NOT_FOUND)
        if conflict is None:
            return RowEnd(OutcomeStatus.CREATED)
        return RowEnd(OutcomeStatus.DUPLICATE, conflict)


def _detail(event: Event[ImportRequested], progress: ImportProgress) -> dict[str, Any]:
    """Return what is kept of an import that ends."""
    detail: dict[str, Any] = {
        "dryRun": event.data.dry_run,
        "progress": progress.counts or asdict(ImportReport()),
    }
    if progress.passed_over:
        detail["ignoredColumns"] = list(progress.passed_over)
    return detail


# The kept file: checked to be whole, then read line by line. No more of it is held than a chunk.


class _Chunks(io.RawIOBase):
    """Bytes that come in numbered chunks, the last of which is empty."""

    def __init__(self, fetch: Callable[[int], bytes]) -> None:
        super().__init__()
        self._fetch = fetch
        self._number = 0
        self._chunk = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if not self._chunk:
            self._chunk = memoryview(self._fetch(self._number))
            self._number += 1
        target = memoryview(buffer)
        size = min(len(target), len(self._chunk))
        target[:size] = self._chunk[:size]
        self._chunk = self._chunk[size:]
        return size


async def _check_file(files: ImportFiles, import_id: UUID, *, sha256: str) -> None:
    """Raise `PermanentError` unless an import's file is there as it was sent.

    Its code is `file-gone`, or `file-damaged` when a part is missing or another one.
    """
    digest, number = hashlib.sha256(), 0
    while chunk := await files.chunk(import_id, number):
        digest.update(chunk)
        number += 1
    if digest.hexdigest() != sha256:
        raise PermanentError("The file is not as it was sent", code="file-damaged")


def _kept_lines(files: ImportFiles, import_id: UUID, *, charset: str | None) -> Iterator[str]:
    """Return the lines of an import's file, to be read in another thread than this one.

    Reading raises what `ImportFiles.chunk` does.
    """
    loop = asyncio.get_running_loop()

    def fetch(number: int) -> bytes:
        return asyncio.run_coroutine_threadsafe(files.chunk(import_id, number), loop).result()

    def lines() -> Iterator[str]:
        # Not before the first line is wanted: to open it is to read its beginning.
        yield from lines_of(open_text(_Chunks(fetch), charset))

    return lines()
