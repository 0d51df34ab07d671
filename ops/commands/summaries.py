"""`ops summaries`."""

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from uuid import NAMESPACE_URL, UUID, uuid5

import click

from ops.environment import settings
from ops.output import as_json, print_json
from ops.progress import progress_bar
from ops.running import Servers, open_servers, run
from ops.selecting import Seconds, Text
from ops.storage.summary_backlog import FIRST, Backlog, SummaryBacklog
from shared.events import catalog
from shared.events.data import SummaryRequested
from shared.events.envelope import Event, now
from shared.redis_connections import open_redis
from shared.settings import StreamsSettings
from shared.streams.inspection import Inspector
from shared.streams.model_pauses import ModelPause, ModelPauses
from shared.streams.publisher import add_events

# More than these would only wait in the stream, ahead of people's requests.
MOST_WAITING = 50
LOOK_AGAIN = timedelta(milliseconds=200)


@click.group("summaries")
def command() -> None:
    """Have summaries written."""


@command.command("backfill")
@click.option("--dry-run", is_flag=True, help="Only count, and estimate the tokens.")
@click.option(
    "--rate",
    type=Seconds(most=10_000),
    default=5.0,
    show_default=True,
    help="Requests a second at most.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Ask for so many at most.")
@click.option(
    "--job",
    type=Text(),
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


@command.command("resume")
@as_json
def resume(*, as_json: bool) -> None:
    """Have the model called again before the provider's pause is over.

    After a 429 nobody calls the model for as long as the provider says, which may be a day. If
    it still refuses, the next call brings the pause back.
    """
    lifted = run(_resume())
    if as_json:
        print_json(
            [{"model": one.name, "seconds": round(one.left.total_seconds())} for one in lifted]
        )
        return
    for one in lifted:
        click.echo(f"{one.name}: was to be paused for {one.left.total_seconds():.0f} s more")
    if not lifted:
        click.echo("Nothing is paused.")


async def _resume() -> list[ModelPause]:
    async with open_redis(settings(StreamsSettings)) as redis:
        return await ModelPauses(redis).lift()


async def _backfill(
    *, job: str, rate: float, limit: int | None, dry_run: bool, quiet: bool
) -> tuple[Backlog, int]:
    async with open_servers() as servers:
        lacking = SummaryBacklog(servers.database, as_of=now())
        backlog = await lacking.size()
        asked = 0
        if dry_run:
            return backlog, asked
        total = min(backlog.leads, limit or backlog.leads)
        with progress_bar("Requesting summaries", total=total, quiet=quiet) as bar:
            requests = _request_summaries(servers, lacking, job=job, rate=rate, limit=limit)
            async for asked in requests:
                bar.show(asked)
        return backlog, asked


async def _request_summaries(
    servers: Servers, lacking: SummaryBacklog, *, job: str, rate: float, limit: int | None
) -> AsyncGenerator[int]:
    """Publish requests, `rate` a second at most; yields how many there were so far.

    A request's id comes from the job and the lead, so that a job that was stopped goes on
    where it was when it is run again, and asks for nothing twice.
    """
    inspector = Inspector(servers.redis)
    after, asked, started = FIRST, 0, time.monotonic()
    while limit is None or asked < limit:
        page = await lacking.page(after=after, limit=MOST_WAITING)
        for lead_id in page[: None if limit is None else limit - asked]:
            await _until_few_wait(inspector)
            await asyncio.sleep(max(0.0, started + asked / rate - time.monotonic()))
            await add_events(servers.redis, [_request(lead_id, job=job)])
            asked += 1
            yield asked
        if not page:
            return
        after = page[-1]


async def _until_few_wait(inspector: Inspector) -> None:
    while True:
        if await _waiting(inspector) < MOST_WAITING:
            return
        await asyncio.sleep(LOOK_AGAIN.total_seconds())


async def _waiting(inspector: Inspector) -> int:
    """Return how many requests the summarizers have yet to finish; all, when that is unknown."""
    stream = await inspector.look(catalog.SUMMARIES)
    lags = [group.lag for group in stream.groups if group.name == catalog.SUMMARIZER]
    return sum(stream.length if lag is None else lag for lag in lags)


def _request(lead_id: UUID, *, job: str) -> Event:
    return Event(
        id=uuid5(NAMESPACE_URL, f"summaries-backfill:{job}:{lead_id}"),
        source="ops",
        subject=str(lead_id),
        correlation_id=job,
        data=SummaryRequested(lead_id=lead_id, background=True),
    )
