"""`ops replay`."""

import asyncio
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import click

from ops.output import as_json, confirm, print_json, print_table, yes
from ops.progress import Bar, progress_bar
from ops.running import INTERRUPTED, Servers, open_servers, operator, run
from ops.selecting import EntryId, Text, selecting, selection
from ops.storage.lead_keys import with_lead_ids
from shared.administration.replays import ReplayPlan, Replays
from shared.events.catalog import LEADS, STREAMS, groups_of
from shared.events.replay import ReplayOrder, ReplayOrigin
from shared.lifecycle import stop_signal
from shared.storage.admin_log import AdminLog
from shared.streams.codec import entry_id
from shared.streams.replays.jobs import ReplayProgress, ReplayState
from shared.streams.replays.tally import ReplayResult

# Without any report for so long it is said that the replay waits.
SILENT = timedelta(seconds=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """How a replay ended. `unreported` events are still under way, or were passed over."""

    id: str
    finished: bool
    cancelled: bool
    replayed: int
    applied_now: int
    already_applied: int
    refused: int
    dead: int
    unreported: int
    seconds: float

    @classmethod
    def of(cls, order: ReplayOrder, progress: ReplayProgress, *, seconds: float) -> "ReplayReport":
        """Return the report of a replay that has come so far."""
        return cls(
            id=order.id,
            finished=progress.state is ReplayState.FINISHED,
            cancelled=progress.state is ReplayState.CANCELLED,
            replayed=progress.added,
            applied_now=progress.results.get(ReplayResult.APPLIED, 0),
            already_applied=progress.results.get(ReplayResult.ALREADY_APPLIED, 0),
            refused=progress.results.get(ReplayResult.REFUSED, 0),
            dead=progress.results.get(ReplayResult.DEAD, 0),
            unreported=progress.outstanding,
            seconds=round(seconds, 1),
        )


class Silence:
    """Says when nothing goes on, and when it does again."""

    def __init__(self, group: str) -> None:
        self._group = group
        self._settled = 0
        self._heard_at = time.monotonic()
        self._is_silent = False

    def watch(self, progress: ReplayProgress) -> None:
        """See how far the replay is."""
        if progress.settled != self._settled or not progress.outstanding:
            self._settled, self._heard_at = progress.settled, time.monotonic()
            if self._is_silent:
                click.echo("It goes on.", err=True)
            self._is_silent = False
        elif not self._is_silent and time.monotonic() - self._heard_at > SILENT.total_seconds():
            self._is_silent = True
            click.echo(
                f"Nothing goes on: does a {self._group} run? {progress.outstanding:,} events wait "
                "for one. `ops doctor` says more.",
                err=True,
            )


@click.command("replay")
@click.option(
    "--from",
    "origin",
    type=click.Choice([origin.value for origin in ReplayOrigin]),
    help="Read the live stream, or the archive of applied events.",
)
@click.option(
    "--stream",
    type=click.Choice([stream for stream in STREAMS if any(groups_of(stream))]),
    metavar="STREAM",
    default=LEADS,
    show_default=True,
    help="Where the events travel.",
)
@click.option("--group", type=Text(), help="Who gets them. Default: the stream's only group.")
@selecting
@click.option("--first", type=EntryId(), help="From this entry id of the stream on.")
@click.option("--last", type=EntryId(), help="Up to this entry id of the stream.")
@click.option(
    "--rate", type=click.IntRange(1, 1_000_000), help="At most so many events per second."
)
@click.option("--with-model", is_flag=True, help="Let summaries call the language model again.")
@click.option("--dry-run", is_flag=True, help="Only count the events to go through.")
@click.option("--job", type=Text(), help="Go on with this replay; its own options hold.")
@yes
@as_json
def command(*, job: str | None, dry_run: bool, yes: bool, as_json: bool, **options: Any) -> None:
    """Put past events back for one consumer group.

    Each keeps its id, so what is applied already stays as it is, and what is missing comes
    back. No reply is sent, and the group's position in the live stream is not touched.
    Interrupted with Ctrl-C or cancelled, a replay goes on later with --job.
    """
    order = None if job else _order(**options)
    if dry_run:
        if order is None:
            raise click.UsageError("--dry-run and --job exclude each other.")
        plan = run(_plan(order))
        print_json(plan) if as_json else _print_plan(order, plan)
        return
    if order is not None and order.with_model:
        confirm("Call the language model for every summary that is replayed?", yes=yes)
    report = run(_replay(order, job=job, quiet=as_json))
    print_json(report) if as_json else _print_report(report)
    if not (report.finished or report.cancelled):
        raise SystemExit(INTERRUPTED)
    if report.dead or report.refused or report.cancelled:
        raise SystemExit(1)


def _order(
    *,
    origin: str | None,
    stream: str,
    group: str | None,
    first: str | None,
    last: str | None,
    rate: int | None,
    with_model: bool,
    **conditions: Any,
) -> ReplayOrder:
    if origin is None:
        raise click.UsageError("Say --from stream or --from archive, or --job to go on.")
    if origin == ReplayOrigin.ARCHIVE and (first or last):
        raise click.UsageError("The archive has no entry ids; use --since and --until.")
    if first and last and entry_id(first) > entry_id(last):
        raise click.UsageError("--first must not be after --last.")
    return ReplayOrder(
        origin=ReplayOrigin(origin),
        stream=stream,
        group=group or _only_group(stream),
        selection=selection(**conditions),
        first=first,
        last=last,
        rate=rate,
        with_model=with_model,
        requested_by=operator(),
    )


def _only_group(stream: str) -> str:
    groups = list(groups_of(stream))
    if len(groups) == 1:
        return groups[0]
    if stream not in STREAMS:
        raise click.UsageError(f"There is no {stream}, only {', '.join(STREAMS)}.")
    raise click.UsageError(f"Say which --group of {stream}: {', '.join(groups) or 'it has none'}.")


async def _plan(order: ReplayOrder) -> ReplayPlan:
    async with open_servers() as servers:
        replays = Replays(servers.redis, servers.database)
        return await replays.plan(await _bounded(servers, replays, order))


async def _bounded(servers: Servers, replays: Replays, order: ReplayOrder) -> ReplayOrder:
    wanted = await with_lead_ids(servers.database, order.selection)
    return await replays.bounded(replace(order, selection=wanted))


async def _replay(order: ReplayOrder | None, *, job: str | None, quiet: bool) -> ReplayReport:
    async with open_servers() as servers:
        replays = Replays(servers.redis, servers.database)
        if order is not None:
            order = await _bounded(servers, replays, order)
            await replays.jobs.save(order)
        else:
            order = await replays.jobs.find_order(str(job))
            if order is None:
                raise click.ClickException(f"There is no replay {job}, or it is too long ago")
            await replays.jobs.revive(order.id)
        log = AdminLog(servers.database)
        detail = {"id": order.id, "group": order.group, "stream": order.stream}
        async with log.recording("replay", actor=operator(), detail=detail) as recording:
            report = await _run(servers, order, quiet=quiet)
            recording.affected = report.replayed
        return report


async def _run(servers: Servers, order: ReplayOrder, *, quiet: bool) -> ReplayReport:
    replays = Replays(servers.redis, servers.database)
    if not quiet:
        click.echo(f"Replay {order.id} to {order.group}; Ctrl-C stops it.", err=True)
    total = await replays.source(order).size()
    started = time.monotonic()
    with progress_bar("Replaying", total=total, quiet=quiet) as bar:
        async with stop_signal() as stop:
            progress = await _run_until(replays, order, stop, bar)
    return ReplayReport.of(order, progress, seconds=time.monotonic() - started)


async def _run_until(
    replays: Replays, order: ReplayOrder, stop: asyncio.Event, bar: Bar
) -> ReplayProgress:
    silence = Silence(order.group)

    def watch(progress: ReplayProgress) -> None:
        bar.show(progress.examined, note=f"{progress.outstanding:,} under way")
        silence.watch(progress)

    return await replays.replayer(order, stop=stop, watch=watch).run()


def _print_plan(order: ReplayOrder, plan: ReplayPlan) -> None:
    types = sorted({*plan.counts, *plan.missing})
    rows = [(name, plan.counts.get(name, 0), plan.missing.get(name, 0)) for name in types]
    print_table(("type", "#to go through", "#not in the stream any more"), rows)
    click.echo(f"To {order.group} on {order.stream}. Nothing was changed.")
    click.echo("At most so many change something: what is there already stays as it is.")
    if any(plan.missing.values()):
        begins = plan.stream_begins.isoformat() if plan.stream_begins else "nowhere: it is empty"
        click.echo(f"The stream begins {begins}; --from archive has what is older.")


def _print_report(report: ReplayReport) -> None:
    per_second = report.replayed / report.seconds if report.seconds else 0
    click.echo(f"replayed         {report.replayed:>12,}")
    click.echo(f"applied now      {report.applied_now:>12,}")
    click.echo(f"already applied  {report.already_applied:>12,}")
    click.echo(f"refused          {report.refused:>12,}")
    click.echo(f"dead             {report.dead:>12,}")
    if report.unreported:
        click.echo(f"unreported       {report.unreported:>12,}")
    click.echo(f"in {report.seconds:.1f} s, {per_second:,.0f} events/s")
    if not report.finished:
        ended = "Cancelled" if report.cancelled else "Stopped"
        click.echo(f"{ended}. Go on with: python -m ops replay --job {report.id}", err=True)
