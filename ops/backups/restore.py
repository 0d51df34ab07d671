"""`ops restore`."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

import click

from ops.backups import BackupError
from ops.backups.backup import open_direct, tools_for
from ops.backups.directory import ERASED, MANIFEST, Backup, BackupDirectory, read_erasures
from ops.environment import settings
from ops.files import FilePath
from ops.output import as_json, confirm, print_json, yes
from ops.running import operator, run
from ops.storage.schema_copy import (
    Erasure,
    Position,
    SchemaFacts,
    drop_empty_schema,
    forget_members,
    open_snapshot,
    repeat_erasures,
    server_major,
)
from shared.domain.errors import TransientError
from shared.settings import PostgresSettings
from shared.storage.admin_log import AdminLog
from shared.storage.migrations.runner import migrate
from shared.storage.migrations.steps import MigrationError
from shared.storage.pool import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreReport:
    """What was restored. `erased` leads were there again and are gone.

    `differences` are tables that are not what was backed up, `migrated` what this version added to
    the schema, and `positions` from where on the streams are applied.
    """

    backup: str
    made_at: str
    leads: int
    events: int
    erased: int
    differences: tuple[str, ...]
    migrated: tuple[str, ...]
    positions: tuple[Position, ...]
    seconds: float


@click.command("restore")
@click.argument("path", type=FilePath(exists=True, file_okay=False))
@click.option(
    "--erased",
    "erased_path",
    type=FilePath(exists=True, dir_okay=False),
    help=f"The list of erased leads. Default: {ERASED} beside the backup.",
)
@click.option(
    "--without-erasures",
    is_flag=True,
    help="Leave leads that were erased since the backup as they were then.",
)
@click.option(
    "--only-erasures",
    is_flag=True,
    help="Restore nothing: only erase again what the list says, for a database that was restored "
    "in another way.",
)
@yes
@as_json
def command(
    *,
    path: str,
    erased_path: str | None,
    without_erasures: bool,
    only_erasures: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Make an empty database what it was at a backup.

    PATH is a backup, or the directory of all: then the newest is taken. What was erased since
    then is erased again. Stop the services first, and start them afterwards.
    """
    if without_erasures and (erased_path or only_erasures):
        raise click.UsageError("--without-erasures excludes what is about them.")
    directory = Path(path)
    backup = None if only_erasures else run(_find(directory))
    listed = _list_of(directory if backup is None else backup.path, erased_path)
    erasures = [] if without_erasures else run(_read(listed))
    if backup is None:
        confirm(f"Erase {len(erasures):,} leads in {_place()} if they are there?", yes=yes)
        _print_erased(run(_erase(erasures)), as_json=as_json)
        return
    # Nothing shows it for sure: of services behind a pooler no session is to be seen.
    confirm(f"Restore {backup.path.name} into {_place()}? No service may run.", yes=yes)
    _print(run(_restore(backup, erasures)), as_json=as_json)


def _list_of(path: Path, chosen: str | None) -> Path:
    """Return the list that was named, or else the one in a directory of backups or beside one."""
    if chosen:
        return Path(chosen)
    return (path.parent if (path / MANIFEST).exists() else path) / ERASED


def _place() -> str:
    address = settings(PostgresSettings).address
    return f"{','.join(address.hosts)}/{address.database or ''}"


async def _find(path: Path) -> Backup:
    if (path / MANIFEST).exists():
        return Backup(path)
    newest = BackupDirectory(path).newest()
    if newest is None:
        raise BackupError(f"There is no backup in {path}")
    return newest


async def _read(path: Path) -> list[Erasure]:
    if not path.exists():  # noqa: ASYNC240 (nothing else runs)
        raise BackupError(
            f"There is no {path}: without it leads come back that were erased since the backup. "
            "Name the list with --erased, or say --without-erasures."
        )
    return list(read_erasures(path))


async def _erase(erasures: list[Erasure]) -> int:
    detail = {"listed": len(erasures)}
    async with (
        open_direct() as database,
        AdminLog(database).recording("erase", actor=operator(), detail=detail) as recording,
    ):
        recording.affected = await repeat_erasures(database, erasures)
        return recording.affected


async def _restore(backup: Backup, erasures: list[Erasure]) -> RestoreReport:
    began = time.monotonic()
    await asyncio.to_thread(backup.check_dump)
    expected = backup.manifest.facts
    async with open_direct() as database:
        await _load(database, backup)
        async with open_snapshot(database) as snapshot:
            differences = compare(expected, snapshot.facts)
        migrated = await _migrate()
        try:
            erased = await repeat_erasures(database, erasures)
        except TransientError as error:
            raise BackupError(
                f"Restored, but not all is erased again: {error}. Start nothing before `ops "
                "restore --only-erasures` with the same paths has done it."
            ) from error
        await forget_members(database)
        detail = {"backup": backup.path.name, "erased": erased, "differences": differences}
        async with AdminLog(database).recording(
            "restore", actor=operator(), detail=detail
        ) as recording:
            recording.affected = snapshot.facts.rows("lead")
    return RestoreReport(
        backup=str(backup.path),
        made_at=backup.manifest.made_at.isoformat(),
        leads=snapshot.facts.rows("lead"),
        events=snapshot.facts.rows("event"),
        erased=erased,
        differences=differences,
        migrated=tuple(migrated),
        positions=expected.positions,
        seconds=round(time.monotonic() - began, 2),
    )


async def _load(database: Database, backup: Backup) -> None:
    tools = await tools_for(database)
    major = await server_major(database)
    if major < (made_on := backup.manifest.facts.postgres):
        raise BackupError(
            f"The backup is of PostgreSQL {made_on}, and this server is {major}: take a newer one."
        )
    if not await drop_empty_schema(database):
        raise BackupError(
            "The schema `leads` is not empty, and a restore overwrites nothing: restore into "
            "another database, or remove what is there (DROP SCHEMA leads CASCADE)."
        )
    # All or nothing; owners and rights are the new database's own.
    await tools.run(
        "pg_restore",
        *("--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges"),
        *("--no-password", "--dbname", tools.environment["PGDATABASE"], backup.dump),
    )


async def _migrate() -> list[str]:
    try:
        return await asyncio.to_thread(migrate, settings(PostgresSettings).direct_dsn)
    except MigrationError as error:
        raise BackupError(f"Restored, and not migrated: {error}") from error


def compare(expected: SchemaFacts, found: SchemaFacts) -> tuple[str, ...]:
    """Return in which tables a restored schema is not what was backed up."""
    differences: list[str] = []
    for name in sorted(expected.tables.keys() | found.tables.keys()):
        wanted, is_now = expected.tables.get(name), found.tables.get(name)
        if wanted is None or is_now is None:
            differences.append(f"{name}: {'missing' if is_now is None else 'not in the backup'}")
        elif wanted.rows != is_now.rows:
            differences.append(f"{name}: {is_now.rows:,} rows, {wanted.rows:,} in the backup")
        elif wanted.hash != is_now.hash:
            differences.append(f"{name}: other contents")
    if expected.migrations != found.migrations:
        differences.append("migrations: others")
    return tuple(differences)


def _print_erased(number: int, *, as_json: bool) -> None:
    print_json({"erased": number}) if as_json else click.echo(f"Erased again: {number:,}")


def _print(report: RestoreReport, *, as_json: bool) -> None:
    """Print the report; what is not as it was ends the command with 1."""
    print_json(report) if as_json else _print_text(report)
    if report.differences:
        raise SystemExit(1)


def _print_text(report: RestoreReport) -> None:
    click.echo(
        f"{report.leads:,} leads and {report.events:,} events, as of {report.made_at}: "
        f"{report.seconds:.1f} s"
    )
    click.echo(f"Erased again: {report.erased:,}")
    if report.migrated:
        click.echo(f"Migrated: {', '.join(report.migrated)}")
    for difference in report.differences:
        click.echo(f"Not what was backed up: {difference}", err=True)
    click.echo("Start the services: syncers go on from where the backup was.")
