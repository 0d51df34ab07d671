"""`ops export`."""

import contextlib
from codecs import BOM_UTF8
from collections.abc import AsyncGenerator
from typing import Any

import click

from ops.environment import settings
from ops.files import FilePath, open_to_write
from ops.output import as_json, print_json
from ops.progress import progress_bar
from ops.running import run
from ops.selecting import selecting, selection
from ops.storage.archive_copy import ArchiveCopy
from ops.storage.lead_keys import with_lead_ids
from shared.domain.lead_file import FileFormat
from shared.events.replay import Selection
from shared.lead_files import csv_header, csv_line
from shared.settings import PostgresSettings
from shared.storage.event_archive import EventArchive
from shared.storage.lead_export import LeadExport
from shared.storage.pool import open_database

SHOW_EVERY = 1_000

output = click.option(
    "--output",
    "-o",
    type=FilePath(dir_okay=False, allow_dash=True),
    default="-",
    help="The file to write. Default: standard output.",
)


@click.group("export")
def command() -> None:
    """Write events or leads to a file.

    Both are personal data; the file can be read by its owner alone.
    """


@command.command("events")
@selecting
@output
@as_json
def export_events(*, output: str, as_json: bool, **conditions: Any) -> None:
    """Write the archive of applied events as NDJSON.

    `ops import events` reads it, and `ops replay --from archive` then rebuilds the leads.
    """
    _report(run(_events(selection(**conditions), output)), as_json=as_json)


@command.command("leads")
@click.option(
    "--format",
    "file_format",
    type=click.Choice([one.value for one in FileFormat]),
    default=FileFormat.NDJSON.value,
    show_default=True,
    help="CSV cells that a spreadsheet would run as a formula begin with an apostrophe.",
)
@click.option("--bom", is_flag=True, help="Begin CSV with a mark by which Excel knows UTF-8.")
@output
@as_json
def export_leads(*, file_format: str, bom: bool, output: str, as_json: bool) -> None:
    """Write all leads, oldest first, as NDJSON or CSV."""
    chosen = FileFormat(file_format)
    if bom and chosen is not FileFormat.CSV:
        raise click.UsageError("--bom is for CSV")
    _report(run(_leads(chosen, output, mark=BOM_UTF8 if bom else b"")), as_json=as_json)


async def _events(wanted: Selection, path: str) -> int:
    async with open_database(settings(PostgresSettings)) as database:
        wanted = await with_lead_ids(database, wanted)
        total = sum((await EventArchive(database).counts(wanted)).values())
        return await _write(ArchiveCopy(database).lines(wanted), path, total=total)


async def _leads(file_format: FileFormat, path: str, *, mark: bytes) -> int:
    async with open_database(settings(PostgresSettings)) as database:
        export = LeadExport(database)
        total = await export.number()
        if file_format is FileFormat.NDJSON:
            lines = _ndjson(export.documents())
            return await _write(lines, path, total=total)
        header = mark + csv_header().encode()
        return await _write(_csv(export.documents()), path, total=total, header=header)


async def _ndjson(documents: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with contextlib.aclosing(documents):
        async for document in documents:
            yield document + b"\n"


async def _csv(documents: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with contextlib.aclosing(documents):
        async for document in documents:
            yield csv_line(document).encode()


async def _write(
    lines: AsyncGenerator[bytes], path: str, *, total: int, header: bytes = b""
) -> int:
    number = 0
    with open_to_write(path) as file, progress_bar("Exporting", total=total, quiet=False) as bar:
        file.write(header)
        async with contextlib.aclosing(lines):
            async for line in lines:
                file.write(line)
                number += 1
                if number % SHOW_EVERY == 0:
                    bar.show(number)
    return number


def _report(number: int, *, as_json: bool) -> None:
    # Standard output may be the export itself.
    if as_json:
        print_json({"exported": number}, err=True)
    else:
        click.echo(f"{number:,} exported.", err=True)
