"""`ops summaries`."""

from dataclasses import asdict
from datetime import UTC, datetime

import click

from ops.output import as_json, print_json
from ops.progress import progress_bar
from ops.running import open_servers, run
from ops.summaries import request_summaries
from shared.events.envelope import now
from shared.storage.summary_backfill import Backlog, SummaryBackfill


@click.group("summaries")
def command() -> None:
    """Have summaries written."""


@command.command("backfill")
@click.option("--dry-run", is_flag=True, help="Only count, and estimate the tokens.")
@click.option("--rate", default=5.0, show_default=True, help="Requests a second at most.")
@click.option("--limit", type=click.IntRange(min=1), help="Ask for so many at most.")
@click.option(
    "--job",
    default=lambda: f"{datetime.now(UTC):%Y-%m-%d}",
    help="A name: run again under it, a job goes on and asks for nothing twice.  "
    "[default: the date]",
)
@as_json
def backfill(*, dry_run: bool, rate: float, limit: int | None, job: str, as_json: bool) -> None:
    """Ask for a summary of every lead that has none.

    People's requests go first within the model's budget, and the daily quotas of users are
    not touched. Ctrl-C stops; what has been asked for is still written.
    """
    backlog, asked = run(_backfill(job=job, rate=rate, limit=limit, dry_run=dry_run, quiet=as_json))
    report = asdict(backlog) | {"tokens": backlog.tokens, "requested": asked, "job": job}
    if as_json:
        print_json(report)
        return
    each = backlog.tokens_each
    estimate = (
        "unknown: no model has written one yet"
        if each is None
        else f"about {backlog.tokens:,}, {each:.0f} each as of late"
    )
    click.echo(f"leads without a summary  {backlog.leads:,}")
    click.echo(f"tokens to be expected    {estimate}")
    click.echo(f"requested now            {asked:,}" if not dry_run else "Nothing was requested.")


async def _backfill(
    *, job: str, rate: float, limit: int | None, dry_run: bool, quiet: bool
) -> tuple[Backlog, int]:
    async with open_servers() as servers:
        wanted = SummaryBackfill(servers.database, as_of=now())
        backlog = await wanted.backlog()
        asked = 0
        if dry_run:
            return backlog, asked
        total = min(backlog.leads, limit or backlog.leads)
        with progress_bar("Requesting summaries", total=total, quiet=quiet) as bar:
            asking = request_summaries(servers, wanted, job=job, rate=rate, limit=limit)
            async for asked in asking:
                bar.show(asked)
        return backlog, asked
