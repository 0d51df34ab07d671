"""`ops backup`."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import click
from cronsim import CronSim, CronSimError
from pydantic import SecretStr

from ops.backups import BackupError
from ops.backups.directory import (
    DUMP,
    Backup,
    BackupDirectory,
    Manifest,
    checksum,
    made_at_of,
)
from ops.backups.tools import Tools, find_tools
from ops.environment import settings
from ops.files import FilePath
from ops.output import as_json, print_json
from ops.running import operator, run
from ops.storage.schema_copy import Snapshot, new_erasures, open_snapshot, server_major
from shared.administration.wording import size, span
from shared.connection_strings import parse_postgres_address
from shared.domain.errors import TransientError
from shared.events.envelope import now
from shared.lifecycle import stop_signal
from shared.settings import PostgresSettings
from shared.storage.admin_log import AdminLog
from shared.storage.pool import Database, open_database
from shared.storage.prepared_statements import is_direct

# How often the list of erased leads is brought up to date, and a backup that failed tried again.
ROUND = timedelta(minutes=5)
# How late a backup may be before `--check` says so; without a schedule one is made every day.
GRACE = timedelta(hours=2)
DAILY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupReport:
    """What was backed up: `erased` leads were added to the list, `removed` backups were old."""

    path: str
    leads: int
    events: int
    size: int
    seconds: float
    erased: int
    removed: int


class Schedule(click.ParamType[str]):
    """A schedule as cron writes it, in UTC."""

    name = "cron"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Return the schedule as it was given."""
        try:
            next(CronSim(str(value), now()))
        except (CronSimError, StopIteration):
            self.fail(f"{str(value)[:80]!r} is no schedule such as '30 2 * * *'", param, ctx)
        return str(value)


@click.command("backup")
@click.option(
    "--to",
    "target",
    type=FilePath(file_okay=False),
    required=True,
    help="The directory of all backups. It is made where it is missing.",
)
@click.option(
    "--keep",
    type=click.IntRange(1, 10_000),
    default=7,
    show_default=True,
    help="How many backups to keep; older ones are removed once a new one is complete.",
)
@click.option(
    "--schedule", type=Schedule(), help="Go on for ever, with a backup at each of these times."
)
@click.option("--check", is_flag=True, help="Only look whether backups are as new as they should.")
@as_json
def command(*, target: str, keep: int, schedule: str | None, check: bool, as_json: bool) -> None:
    """Back up leads, events and all else in the schema.

    `ops restore` makes a database of it. Backups are personal data, readable by their owner alone.
    """
    directory = BackupDirectory(Path(target))
    if check:
        run(_check(directory, schedule))
    elif schedule is None:
        _print(run(_back_up(directory, keep=keep)), as_json=as_json)
    else:
        run(_keep_backing_up(directory, keep=keep, schedule=schedule, as_json=as_json))


async def _back_up(directory: BackupDirectory, *, keep: int) -> BackupReport:
    with directory.locked():
        async with _open_direct() as database:
            erased = await update_erasures(database, directory)
            backup = await make_backup(database, directory)
        removed = directory.prune(keep=keep)
    return _report(backup, erased=erased, removed=len(removed))


async def _keep_backing_up(
    directory: BackupDirectory, *, keep: int, schedule: str, as_json: bool
) -> None:
    async with stop_signal() as stop:
        while not stop.is_set():
            with _failures_said(), directory.locked():
                async with _open_direct() as database:
                    erased = await update_erasures(database, directory)
                    if is_due(directory, schedule):
                        backup = await make_backup(database, directory)
                        removed = directory.prune(keep=keep)
                        report = _report(backup, erased=erased, removed=len(removed))
                        _print(report, as_json=as_json)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), ROUND.total_seconds())


@contextlib.contextmanager
def _failures_said() -> Generator[None]:
    try:
        yield
    except (TransientError, BackupError) as error:
        click.echo(f"No backup: {error}. Trying again in {span(ROUND)}.", err=True)


async def make_backup(database: Database, directory: BackupDirectory) -> Backup:
    """Make a backup and record it: `AdminLog.last_ended` has the time of the last one."""
    began = time.monotonic()
    log = AdminLog(database)
    detail = {"directory": str(directory.path)}
    async with log.recording("backup", actor=operator(), detail=detail) as recording:
        tools = await tools_for(database)
        with directory.draft() as draft:
            async with open_snapshot(database) as snapshot:
                await _dump(tools, draft / DUMP, snapshot)
            manifest = Manifest(
                made_at=snapshot.at,
                seconds=round(time.monotonic() - began, 2),
                size=(draft / DUMP).stat().st_size,
                sha256=await asyncio.to_thread(checksum, draft / DUMP),
                facts=snapshot.facts,
            )
            backup = await asyncio.to_thread(directory.complete, draft, manifest)
        recording.affected = manifest.facts.rows("lead")
    return backup


async def update_erasures(database: Database, directory: BackupDirectory) -> int:
    """Bring the list of erased leads up to date; returns how many were added."""
    known = {one.lead_id for one in directory.erasures()}
    added = await new_erasures(database, known)
    directory.add_erasures(added)
    return len(added)


async def tools_for(database: Database) -> Tools:
    """Return the programs of the server's version, which work on its database."""
    address = parse_postgres_address(settings(PostgresSettings).direct_dsn)
    return await find_tools(address, major=await server_major(database))


async def _dump(tools: Tools, path: Path, snapshot: Snapshot) -> None:
    # A schema alone would come without the extension that its index stands on. Comments belong to
    # the extension's owner, who may be another one where it is restored.
    extension = ["--extension=pg_trgm"] if snapshot.has_trigrams else []
    await tools.run(
        "pg_dump",
        *("--format=custom", "--schema=leads", "--no-comments", *extension),
        *(f"--snapshot={snapshot.id}", "--no-password", "--file", path),
    )


@contextlib.asynccontextmanager
async def _open_direct() -> AsyncGenerator[Database]:
    async with open_direct() as database:
        async with database.connection() as connection:
            pooled = not await is_direct(connection)
        if pooled and settings(PostgresSettings).postgres_direct_url is None:
            raise BackupError(
                "A pooler stands before PostgreSQL, and pg_dump needs a session of its own: set "
                "POSTGRES_DIRECT_URL to an address without one, or to one in session mode."
            )
        yield database


@contextlib.asynccontextmanager
async def open_direct() -> AsyncGenerator[Database]:
    """Open the database by its direct address."""
    given = settings(PostgresSettings)
    direct = {"supabase_connection_string": SecretStr(given.direct_dsn)}
    async with open_database(given.model_copy(update=direct)) as database:
        yield database


def is_due(directory: BackupDirectory, schedule: str, *, grace: timedelta = timedelta(0)) -> bool:
    """Return whether a time has come since the last backup, more than `grace` ago."""
    made = directory.backups()
    if not made:
        return True
    return next(CronSim(schedule, made_at_of(made[-1]))) <= now() - grace


async def _check(directory: BackupDirectory, schedule: str | None) -> None:
    made = directory.backups()
    if not made:
        raise click.ClickException(f"There is no backup in {directory.path} yet")
    last = made_at_of(made[-1])
    late = (
        last + DAILY + GRACE < now()
        if schedule is None
        else is_due(directory, schedule, grace=GRACE)
    )
    if late:
        raise click.ClickException(f"The last backup is of {last.isoformat()}: it is overdue")
    listed = directory.listed_at()
    if listed is None or (schedule is not None and listed + 3 * ROUND < now()):
        at = "missing" if listed is None else f"of {listed.isoformat(timespec='seconds')}"
        raise click.ClickException(f"The list of erased leads is {at}")
    click.echo(f"The last backup is of {last.isoformat()}.")


def _report(backup: Backup, *, erased: int, removed: int) -> BackupReport:
    manifest = backup.manifest
    facts = manifest.facts
    return BackupReport(
        path=str(backup.path),
        leads=facts.rows("lead"),
        events=facts.rows("event"),
        size=manifest.size,
        seconds=manifest.seconds,
        erased=erased,
        removed=removed,
    )


def _print(report: BackupReport, *, as_json: bool) -> None:
    if as_json:
        print_json(report)
        return
    click.echo(
        f"{report.leads:,} leads and {report.events:,} events in {report.path}: "
        f"{size(report.size)}, {report.seconds:.1f} s"
    )
    if report.removed:
        click.echo(f"{report.removed} older backups were removed.")
