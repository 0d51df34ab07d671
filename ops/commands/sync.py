"""`ops sync`."""

import click

from ops.output import as_json, print_json
from ops.running import run, settings
from ops.sync import request_sync
from shared.settings import StreamsSettings


@click.command("sync")
@click.option("--timeout", default=90.0, show_default=True, help="Seconds to wait for the end.")
@as_json
def command(*, timeout: float, as_json: bool) -> None:
    """Fetch leads from the external source now.

    Tells what became of them: fetched, created, duplicate, invalid.
    """
    report = run(request_sync(settings(StreamsSettings), timeout=timeout))
    if as_json:
        print_json(report)
    else:
        for name, value in report.items():
            if value is not None:
                click.echo(f"{name:<10} {value}")
    if report.get("error"):
        raise SystemExit(1)
