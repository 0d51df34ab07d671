"""`ops sync`."""

from dataclasses import asdict
from datetime import timedelta

import click

from ops.output import as_json, print_json
from ops.running import open_servers, run
from ops.selecting import Seconds
from shared.domain.errors import UnavailableError
from shared.events.data import SyncRequested
from shared.events.envelope import Event, now
from shared.storage.sync_runs import SyncReport, SyncRunRepository
from shared.streams.publisher import add_events


@click.command("sync")
@click.option(
    "--timeout",
    type=Seconds(most=86_400),
    default=90.0,
    show_default=True,
    help="Seconds to wait for the end.",
)
@as_json
def command(*, timeout: float, as_json: bool) -> None:
    """Fetch leads from the external source now.

    Prints how many were fetched, created, duplicate, invalid.
    """
    report = run(_request_sync(timedelta(seconds=timeout)))
    if as_json:
        print_json(report)
    else:
        for name, value in asdict(report).items():
            if value is not None:
                click.echo(f"{name:<10} {value}")
    if report.error:
        raise SystemExit(1)


async def _request_sync(within: timedelta) -> SyncReport:
    """Publish a request and return the report of its run once that is over."""
    event = Event(
        source="ops",
        subject="sync",
        data=SyncRequested(requested_by="operator"),
        expires=now() + within,
    )
    async with open_servers() as servers:
        await add_events(servers.redis, [event])
        run = await SyncRunRepository(servers.database).await_end(event.id, within=within)
    if run is None:
        raise UnavailableError("No syncer answered in time; the request stands")
    return run.report
