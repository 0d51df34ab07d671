"""`ops import`."""

import asyncio
import contextlib
import hashlib
import itertools
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import BinaryIO
from uuid import UUID

import click
import orjson
from pydantic import ValidationError

from ops.environment import settings
from ops.files import FilePath, is_same_file, open_to_read, open_to_write
from ops.output import as_json, confirm, print_json, yes
from ops.progress import Bar, progress_bar
from ops.running import Servers, open_servers, operator, run
from ops.storage.archive_copy import ArchiveCopy, ArchivedEvent
from shared.domain.errors import UnavailableError
from shared.domain.lead_file import FileFormat, ImportMode, ImportReport
from shared.events.data import ImportRequested, row_event_id
from shared.events.envelope import Event, new_id
from shared.events.outcome import OutcomeStatus
from shared.lead_files import Layout, check_beginning, mapped
from shared.settings import PostgresSettings
from shared.spreadsheets import encoding_named
from shared.storage.admin_log import AdminLog
from shared.storage.inbox import EventStore
from shared.storage.pool import open_database
from shared.streams.imports import ImportFiles, ImportJobs, Upload
from shared.streams.publisher import add_events

EVENTS_BATCH = 500
FORMATS = [one.value for one in FileFormat]
# What spreadsheets call their files.
TABLES = (".csv", ".tsv", ".tab", ".txt")
_VERBS = {ImportMode.CREATE.value: "Create", ImportMode.UPSERT.value: "Create or change"}
# How long a syncer may take to write a window of rows, and how often to look.
TIMEOUT = timedelta(seconds=60)
POLL = timedelta(milliseconds=100)
# Bytes of a file sent at a time.
CHUNK = 256 * 1024


@dataclass(slots=True, kw_only=True)
class EventsReport:
    """How many of a file's events are in the archive now, and how many were before."""

    rows: int = 0
    added: int = 0
    known: int = 0
    invalid: int = 0


@dataclass(frozen=True, slots=True)
class ImportOrder:
    """How a file is to be read, and what its rows are to become."""

    file_format: FileFormat
    layout: Layout
    charset: str | None
    dry_run: bool


class Refuse:
    """Reports rows that were not written: on standard error, or in a file when there is one."""

    def __init__(self, file: BinaryIO | None) -> None:
        self._file = file

    def __call__(self, line: bytes) -> None:
        """Report one row by its line: its number and the reasons, not what it says."""
        if self._file is not None:
            self._file.write(line)
        else:
            problem = orjson.loads(line)
            reasons = "; ".join(f"{name}: {reason}" for name, reason in problem["errors"].items())
            click.echo(f"Row {problem['row']}: {reasons}", err=True)


def _mapping(
    _context: click.Context, _option: click.Parameter, columns: Sequence[str]
) -> dict[str, str]:
    try:
        return dict(map(mapped, columns))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


mapping_of_columns = click.option(
    "--map",
    "mapping",
    multiple=True,
    metavar="TITLE:FIELD",
    callback=_mapping,
    help="A column of CSV whose title is no field's; TITLE: passes it over. Repeatable.",
)


def _charset(_context: click.Context, _option: click.Parameter, name: str | None) -> str | None:
    try:
        if name is not None:
            encoding_named(name)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return name


charset = click.option(
    "--charset",
    callback=_charset,
    help="Of a file that is not in UTF-8, UTF-16 or UTF-32, such as windows-1252.",
)

errors_file = click.option(
    "--errors",
    type=FilePath(dir_okay=False, allow_dash=True),
    help="Write bad rows' numbers and reasons to this file, as NDJSON.",
)


@click.group("import")
def command() -> None:
    """Read events or leads from a file."""


@command.command("events")
@click.argument("path", type=FilePath(exists=True, dir_okay=False, allow_dash=True))
@yes
@as_json
def import_events(*, path: str, yes: bool, as_json: bool) -> None:
    """Add exported events from PATH to the archive.

    Applies none of them: that is what `ops replay --from archive` then does. Events that are
    in the archive already stay as they are.
    """
    confirm(f"Add the events in {path} to the archive?", yes=yes)
    report = run(_events(path, quiet=as_json))
    _end(report, good=not report.invalid, as_json=as_json)


@command.command("leads")
@click.argument("path", type=FilePath(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--format", "file_format", type=click.Choice(FORMATS), help="Default: by the file's name."
)
@click.option(
    "--mode",
    type=click.Choice(list(_VERBS)),
    default=ImportMode.CREATE.value,
    show_default=True,
    help="create leaves leads that are known alone; upsert changes those with a row's externalId.",
)
@mapping_of_columns
@charset
@click.option("--dry-run", is_flag=True, help="Write nothing, and report what would be written.")
@errors_file
@yes
@as_json
def import_leads(
    *,
    path: str,
    file_format: str | None,
    mode: str,
    mapping: dict[str, str],
    charset: str | None,
    dry_run: bool,
    errors: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Write the leads in PATH, a row each, through a running syncer.

    Rows that meet another lead, by e-mail or externalId, are counted and left alone; an upsert
    changes the lead that has a row's externalId or, in a row without one, its id. Good rows land
    whatever the others are like, and columns whose values cannot be imported are named.
    """
    _check_errors_file(errors, path)
    layout = Layout(mapping=mapping, mode=ImportMode(mode))
    order = ImportOrder(_format(path, file_format, layout), layout, charset, dry_run=dry_run)
    if not dry_run:
        confirm(f"{_VERBS[layout.mode]} the leads in {path}?", yes=yes)
    with _refusing(errors) as refuse:
        report = run(_leads(path, order, refuse, quiet=as_json))
    _end(report, good=not (report.invalid or report.refused), as_json=as_json)


def _check_errors_file(errors: str | None, path: str) -> None:
    if errors is not None and is_same_file(errors, path):
        raise click.UsageError("--errors would overwrite the file that is read.")


def _format(path: str, given: str | None, layout: Layout) -> FileFormat:
    chosen = FileFormat(given or ("csv" if path.lower().endswith(TABLES) else "ndjson"))
    if layout.mapping and chosen is FileFormat.NDJSON:
        raise click.UsageError("--map is for columns of CSV")
    return chosen


async def _events(path: str, *, quiet: bool) -> EventsReport:
    report = EventsReport()
    async with open_database(settings(PostgresSettings)) as database:
        copy = ArchiveCopy(database)
        log = AdminLog(database)
        async with log.recording(
            "import events", actor=operator(), detail={"file": click.format_filename(path)}
        ) as recording:
            with (
                open_to_read(path) as file,
                progress_bar("Importing", total=None, quiet=quiet) as bar,
            ):
                events = _good_events(file, report)
                while batch := list(itertools.islice(events, EVENTS_BATCH)):
                    added = await copy.add_events(batch)
                    report.added += added
                    report.known += len(batch) - added
                    bar.show(report.rows)
            recording.affected = report.added
    return report


def _good_events(file: Iterable[bytes], report: EventsReport) -> Iterator[ArchivedEvent]:
    for number, line in enumerate(file, start=1):
        report.rows += 1
        try:
            yield ArchivedEvent.model_validate_json(line)
        except ValidationError as error:
            report.invalid += 1
            problems = error.errors(include_input=False, include_url=False)
            reasons = "; ".join(
                f"{'.'.join(map(str, one['loc']))} {one['msg']}" for one in problems
            )
            click.echo(f"Line {number}: {reasons}", err=True)


async def _leads(path: str, order: ImportOrder, refuse: Refuse, *, quiet: bool) -> ImportReport:
    async with open_servers() as servers:
        if order.dry_run:
            return await _import(servers, path, order, refuse, quiet=quiet)
        log = AdminLog(servers.database)
        async with log.recording(
            "import leads", actor=operator(), detail={"file": path, "mode": order.layout.mode}
        ) as recording:
            report = await _import(servers, path, order, refuse, quiet=quiet)
            recording.affected = report.created + report.updated
        return report


async def _import(
    servers: Servers, path: str, order: ImportOrder, refuse: Refuse, *, quiet: bool
) -> ImportReport:
    """Have a syncer import the file, and follow it."""
    files = ImportFiles(servers.redis)
    import_id = row_event_id(new_id(), 0)
    with open_to_read(path) as file:
        async with files.uploading(import_id) as upload:
            data = await _upload(file, upload, order)
            await upload.keep()
    event = Event(
        id=import_id,
        source="ops",
        subject="import",
        correlation_id=str(import_id),
        data=data,
    )
    await add_events(servers.redis, [event])
    await files.keep(import_id)
    with progress_bar("Importing", total=None, quiet=quiet) as bar:
        report = await _follow(servers, import_id, bar)
    async for lines in ImportJobs(servers.redis).errors(import_id):
        for line in lines.splitlines(keepends=True):
            refuse(line)
    return report


async def _upload(file: BinaryIO, upload: Upload, order: ImportOrder) -> ImportRequested:
    """Keep the file beside the streams, and return the request to import it."""
    digest, size = hashlib.sha256(), 0
    while chunk := file.read(CHUNK):
        if not size:
            check_beginning(chunk, order.file_format, order.layout, charset=order.charset)
        digest.update(chunk)
        size += len(chunk)
        await upload.append(chunk)
    if not size:
        raise click.ClickException("The file is empty")
    return ImportRequested(
        format=order.file_format,
        mode=order.layout.mode,
        mapping=dict(order.layout.mapping),
        dry_run=order.dry_run,
        sha256=digest.hexdigest(),
        size=size,
        requested_by="operator",
        charset=order.charset,
    )


async def _follow(servers: Servers, import_id: UUID, bar: Bar) -> ImportReport:
    """Return the import's report once it has ended; raises when it fails or stands still."""
    events, jobs = EventStore(servers.database), ImportJobs(servers.redis)
    position, give_up = 0, time.monotonic() + TIMEOUT.total_seconds()
    while time.monotonic() < give_up:
        if end := (await events.ends([import_id])).get(import_id):
            status, detail = end
            if status is not OutcomeStatus.IMPORTED:
                reason = detail.get("detail", "It was parked as a dead letter")
                raise click.ClickException(f"The import failed: {reason}")
            if ignored := detail.get("ignoredColumns"):
                click.echo(f"Columns that cannot be imported: {', '.join(ignored)}", err=True)
            return ImportReport(**detail["progress"])
        progress = await jobs.progress(import_id)
        if progress is not None and progress.position > position:
            position, give_up = progress.position, time.monotonic() + TIMEOUT.total_seconds()
            report = ImportReport(**progress.counts)
            bar.show(report.rows, note=f"{report.bad:,} bad")
        await asyncio.sleep(POLL.total_seconds())
    raise UnavailableError(f"No syncer goes on with the import; it stands as {import_id}")


@contextlib.contextmanager
def _refusing(path: str | None) -> Generator[Refuse]:
    if path is None:
        yield Refuse(None)
    else:
        with open_to_write(path) as file:
            yield Refuse(file)


def _end(report: EventsReport | ImportReport, *, good: bool, as_json: bool) -> None:
    if as_json:
        print_json(report)
    else:
        for name, number in asdict(report).items():
            click.echo(f"{name:<10} {number:>12,}")
    if not good:
        raise SystemExit(1)
