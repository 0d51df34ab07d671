"""`ops import`."""

import contextlib
import itertools
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from typing import BinaryIO, TextIO

import click
import orjson
from pydantic import ValidationError

from ops.files import read, written
from ops.output import as_json, confirm, print_json, yes
from ops.progress import progress_bar
from ops.running import open_servers, operator, run, settings
from shared.administration.lead_files import FileFormat, Row, read_rows
from shared.administration.lead_import import ImportReport, LeadImport, check_rows
from shared.settings import PostgresSettings
from shared.storage.admin_log import AdminLog
from shared.storage.archive_copy import ArchiveCopy, ArchivedEvent
from shared.storage.pool import open_database

EVENTS_BATCH = 500


@dataclass(slots=True, kw_only=True)
class EventsReport:
    """How many of a file's events are in the archive now, and how many were before."""

    rows: int = 0
    added: int = 0
    known: int = 0
    invalid: int = 0


class Refuse:
    """Tells of bad rows: on standard error, or in a file when there is one."""

    def __init__(self, file: BinaryIO | None) -> None:
        self._file = file

    def __call__(self, row: Row) -> None:
        """Tell of one row: its number and why it is none, not what it says."""
        if self._file is not None:
            self._file.write(orjson.dumps({"row": row.number, "errors": dict(row.errors)}) + b"\n")
        else:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in row.errors.items())
            click.echo(f"Row {row.number}: {reasons}", err=True)


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
    "--format",
    "file_format",
    type=click.Choice([one.value for one in FileFormat]),
    help="Default: by the file's name.",
)
@click.option("--dry-run", is_flag=True, help="Only check every row.")
@click.option("--errors", help="Write bad rows' numbers and reasons to this file, as NDJSON.")
@yes
@as_json
def import_leads(
    *,
    path: str,
    file_format: str | None,
    dry_run: bool,
    errors: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Create a lead for each row of PATH, through a running syncer.

    Leads that exist already, by e-mail or externalId, are counted and left alone. Good rows
    land whatever the others are like.
    """
    chosen = FileFormat(file_format or ("csv" if path.lower().endswith(".csv") else "ndjson"))
    if not dry_run:
        confirm(f"Create the leads in {path}?", yes=yes)
    with _refusing(errors) as refuse:
        report = run(_leads(path, chosen, refuse, dry_run=dry_run, quiet=as_json))
    _end(report, good=not (report.invalid or report.unknown), as_json=as_json)


async def _events(path: str, *, quiet: bool) -> EventsReport:
    report = EventsReport()
    async with open_database(settings(PostgresSettings)) as database:
        copy = ArchiveCopy(database)
        log = AdminLog(database)
        async with log.recording(
            "import events", actor=operator(), detail={"file": path}
        ) as recording:
            with read(path) as file, progress_bar("Importing", total=None, quiet=quiet) as bar:
                events = _good_events(file, report)
                while batch := list(itertools.islice(events, EVENTS_BATCH)):
                    added = await copy.add(batch)
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
    path: str, file_format: FileFormat, refuse: Refuse, *, dry_run: bool, quiet: bool
) -> ImportReport:
    with read(path) as file, progress_bar("Importing", total=None, quiet=quiet) as bar:

        def watch(report: ImportReport) -> None:
            bar.show(report.rows, note=f"{report.invalid:,} bad")

        rows = read_rows(file, file_format)
        if dry_run:
            return await check_rows(rows, refuse=refuse, watch=watch)
        async with open_servers() as servers:
            log = AdminLog(servers.database)
            async with log.recording(
                "import leads", actor=operator(), detail={"file": path}
            ) as recording:
                importing = LeadImport(servers.redis, servers.database, imported_by="operator")
                report = await importing.run(rows, refuse=refuse, watch=watch)
                recording.affected = report.created
            return report


@contextlib.contextmanager
def _refusing(path: str | None) -> Generator[Refuse]:
    if path is None:
        yield Refuse(None)
    else:
        with written(path) as file:
            yield Refuse(file)


def _end(report: EventsReport | ImportReport, *, good: bool, as_json: bool) -> None:
    if as_json:
        print_json(report)
    else:
        for name, number in asdict(report).items():
            click.echo(f"{name:<10} {number:>12,}")
    if not good:
        raise SystemExit(1)
