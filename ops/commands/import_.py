"""`ops import`."""

import contextlib
import itertools
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import BinaryIO, TextIO

import click
from pydantic import ValidationError

from ops.files import open_to_read, open_to_write
from ops.output import as_json, confirm, print_json, yes
from ops.progress import Bar, progress_bar
from ops.running import Servers, open_servers, operator, run, settings
from ops.storage.archive_copy import ArchiveCopy, ArchivedEvent
from shared.domain.lead_file import FileFormat, ImportMode
from shared.events.envelope import new_id
from shared.lead_files.columns import Layout, mapped
from shared.lead_files.dry_run import DryRun
from shared.lead_files.importing import ImportReport, RowProblem, WriteRows, import_rows
from shared.lead_files.reading import Row, lines_of, read_rows
from shared.lead_files.row_events import Import, RowEvents, row_event_id
from shared.settings import PostgresSettings
from shared.storage.admin_log import AdminLog
from shared.storage.import_repository import ImportRepository
from shared.storage.inbox import EventStore
from shared.storage.pool import open_database
from shared.streams.imports import ImportJobs

EVENTS_BATCH = 500
FORMATS = [one.value for one in FileFormat]
_VERBS = {ImportMode.CREATE.value: "Create", ImportMode.UPSERT.value: "Create or change"}
# How long a syncer may take to write a window of rows.
PATIENCE = timedelta(seconds=60)


@dataclass(slots=True, kw_only=True)
class EventsReport:
    """How many of a file's events are in the archive now, and how many were before."""

    rows: int = 0
    added: int = 0
    known: int = 0
    invalid: int = 0


class Refuse:
    """Tells of rows that were not written: on standard error, or in a file when there is one."""

    def __init__(self, file: BinaryIO | None) -> None:
        self._file = file

    def __call__(self, problem: RowProblem) -> None:
        """Tell of one row: its number and the reasons, not what it says."""
        if self._file is not None:
            self._file.write(problem.line())
        else:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in problem.errors.items())
            click.echo(f"Row {problem.row}: {reasons}", err=True)


def _mapping(
    _context: click.Context, _option: click.Parameter, columns: Sequence[str]
) -> dict[str, str]:
    try:
        return dict(map(mapped, columns))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.group("import")
def command() -> None:
    """Read events or leads from a file."""


@command.command("events")
@click.argument("path")
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
@click.argument("path")
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
@click.option(
    "--map",
    "mapping",
    multiple=True,
    metavar="TITLE:FIELD",
    callback=_mapping,
    help="A column of CSV whose title is no field's; TITLE: passes it over. Repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Only tell what would become of the rows.")
@click.option("--errors", help="Write bad rows' numbers and reasons to this file, as NDJSON.")
@yes
@as_json
def import_leads(
    *,
    path: str,
    file_format: str | None,
    mode: str,
    mapping: dict[str, str],
    dry_run: bool,
    errors: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Write the leads in PATH, a row each, through a running syncer.

    Rows that meet another lead, by e-mail or externalId, are counted and left alone; an upsert
    changes the lead that has a row's externalId. Good rows land whatever the others are like.
    """
    chosen = _format(path, file_format)
    layout = Layout(mapping=mapping, mode=ImportMode(mode))
    if mapping and chosen is FileFormat.NDJSON:
        raise click.UsageError("--map is for columns of CSV")
    if not dry_run:
        confirm(f"{_VERBS[layout.mode]} the leads in {path}?", yes=yes)
    with _refusing(errors) as refuse:
        report = run(_leads(path, chosen, layout, refuse, dry_run=dry_run, quiet=as_json))
    _end(report, good=not (report.invalid or report.refused or report.unknown), as_json=as_json)


def _format(path: str, given: str | None) -> FileFormat:
    return FileFormat(given or ("csv" if path.lower().endswith(".csv") else "ndjson"))


async def _events(path: str, *, quiet: bool) -> EventsReport:
    report = EventsReport()
    async with open_database(settings(PostgresSettings)) as database:
        copy = ArchiveCopy(database)
        log = AdminLog(database)
        async with log.recording(
            "import events", actor=operator(), detail={"file": path}
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


def _good_events(file: TextIO, report: EventsReport) -> Iterator[ArchivedEvent]:
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


async def _leads(
    path: str,
    file_format: FileFormat,
    layout: Layout,
    refuse: Refuse,
    *,
    dry_run: bool,
    quiet: bool,
) -> ImportReport:
    with open_to_read(path) as file, progress_bar("Importing", total=None, quiet=quiet) as bar:
        rows = read_rows(lines_of(file), file_format, layout)
        async with open_servers() as servers:
            if dry_run:
                rehearsal = DryRun(ImportRepository(servers.database), layout.mode)
                return await _write(rows, rehearsal.write, refuse, bar)
            log = AdminLog(servers.database)
            async with log.recording(
                "import leads", actor=operator(), detail={"file": path, "mode": layout.mode}
            ) as recording:
                events = _row_events(servers, layout.mode)
                report = await _write(rows, events.write, refuse, bar)
                recording.affected = report.created + report.updated
            return report


async def _write(rows: Iterator[Row], write: WriteRows, refuse: Refuse, bar: Bar) -> ImportReport:
    report = ImportReport()
    async with contextlib.aclosing(import_rows(rows, write)) as steps:
        async for step in steps:
            report = step.report
            for problem in step.problems:
                refuse(problem)
            bar.show(report.rows, note=f"{report.problems:,} bad")
    return report


def _row_events(servers: Servers, mode: ImportMode) -> RowEvents:
    import_id = row_event_id(new_id(), 0)
    of = Import(
        id=import_id,
        mode=mode,
        created_by="operator",
        source="ops",
        correlation_id=str(import_id),
    )
    events = EventStore(servers.database)
    return RowEvents(ImportJobs(servers.redis), events, of, patience=PATIENCE)


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
