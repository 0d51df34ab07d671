"""`ops streams`."""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import click
from rich.console import Group
from rich.live import Live
from rich.table import Table

from ops.dividing import Redivision
from ops.environment import settings
from ops.output import as_json, console, print_json, table
from ops.progress import progress_bar
from ops.running import INTERRUPTED, open_servers, operator, run
from shared.administration.wording import size
from shared.events.catalog import LEADS, STREAMS
from shared.lifecycle import stop_signal
from shared.redis_connections import open_redis
from shared.settings import MOST_PARTITIONS, PostgresSettings, StreamsSettings
from shared.storage.admin_log import AdminLog
from shared.storage.partitions import PartitionRepository
from shared.storage.pool import open_database
from shared.streams.consuming.settlement import DEAD_LETTERS
from shared.streams.inspection import COUNTABLE, Inspector, StreamState

SAMPLE = timedelta(seconds=1)

# What an ordered stream is divided into.
_PARTITION = re.compile(re.escape(LEADS) + r":\{[1-9][0-9]{0,8}\.[0-9]{1,3}\}")


class StreamName(click.ParamType[str]):
    """A stream that there may be: others are typing errors."""

    name = "stream"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name."""
        known = (*STREAMS, DEAD_LETTERS)
        if value not in known and not _PARTITION.fullmatch(value):
            self.fail(f"There is no {value[:80]!r}, only {', '.join(known)}", param, ctx)
        return str(value)


class ShowByDefault(click.Group):
    """A group whose command `show` need not be said."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Have names of streams, and options, be those of `show`."""
        if not args or args[0] not in self.commands:
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group("streams", cls=ShowByDefault)
def command() -> None:
    """Show streams, groups and consumers."""


@command.command("show")
@click.argument("names", nargs=-1, type=StreamName())
@click.option("--watch", is_flag=True, help="Go on until interrupted, each second anew.")
@click.option("--partitions", is_flag=True, help="Show each partition of ordered streams, too.")
@as_json
def show(*, names: tuple[str, ...], watch: bool, partitions: bool, as_json: bool) -> None:
    """Show streams, groups and consumers.

    NAMES are streams; without any, all are shown. "undelivered" is counted, not taken from
    Redis' own figure of the lag, which is missing or wrong after deletions and trims. An ordered
    stream is shown as one; its consumers and what it holds for another attempt are known to
    PostgreSQL alone, and missing while that is away.

    `ops streams partition --help` tells how to change the number of partitions.
    """
    wanted = names or (*STREAMS, DEAD_LETTERS)
    display = _Display(as_json=as_json, partitions=partitions)
    with contextlib.suppress(KeyboardInterrupt):
        run(_watch(wanted, display) if watch else _show(wanted, display))


@command.command("partition")
@click.option(
    "--to", "number", type=click.IntRange(1, MOST_PARTITIONS), required=True, help="The new number."
)
@click.option("--force", is_flag=True, help="Begin although no syncer runs.")
@as_json
def partition(*, number: int, force: bool, as_json: bool) -> None:
    """Give stream:leads another number of partitions.

    At most so many syncers share the work. Nothing is lost and every lead's order is kept: new
    events are refused (503) until the syncers have done what was accepted before, held entries
    with all their attempts included. Then the new partitions open.

    Ctrl-C ends the display only. The same command shows again how far it is.
    """
    try:
        report = run(_partition(number, force=force, quiet=as_json))
    except KeyboardInterrupt:
        click.echo("It goes on by itself: the same command shows how far it is.", err=True)
        raise SystemExit(INTERRUPTED) from None
    if as_json:
        print_json(report)
    else:
        click.echo(f"{LEADS} has {report['partitions']} partitions.")
    if report["partitions"] != number:
        raise click.ClickException(
            f"That change was under way already: run this again for {number}."
        )
    click.echo(
        f"Where STREAM_PARTITIONS is set, set it to {number}, or a service that starts refuses to.",
        err=True,
    )


async def _partition(number: int, *, force: bool, quiet: bool) -> dict[str, int]:
    async with open_servers() as servers:
        redivision = Redivision(servers, LEADS)
        division = await redivision.division()
        if division is None:
            raise click.ClickException(
                f"{LEADS} has no partitions yet: a syncer makes as many as STREAM_PARTITIONS says."
            )
        if not division.is_open:
            await _watch_division(redivision, division.last.partitions, quiet=quiet)
        elif division.last.partitions != number:
            if not force and not await redivision.is_attended():
                raise click.ClickException(
                    "No syncer runs. Until one does, nothing would be published: start one first, "
                    "or say --force."
                )
            recording = AdminLog(servers.database).recording(
                "streams.partition",
                actor=operator(),
                detail={"stream": LEADS, "from": division.last.partitions, "to": number},
            )
            async with recording as action:
                division = await redivision.begin(division.last, partitions=number)
                await _watch_division(redivision, division.last.partitions, quiet=quiet)
                action.affected = division.last.partitions
        return {"partitions": division.last.partitions}


async def _watch_division(redivision: Redivision, number: int, *, quiet: bool) -> None:
    click.echo(
        f"{LEADS} is being divided into {number} partitions. Until what came before is done, "
        "nothing is published (503).",
        err=True,
    )
    most, was_attended = 0, True
    # Signals are waited for: a cancellation that meets an answer just arriving can get lost.
    async with stop_signal() as stop:
        with progress_bar("Draining", total=None, quiet=quiet) as bar:
            async for remaining in redivision.until_open(stop):
                most = max(most, remaining.all)
                if was_attended and not remaining.is_attended:
                    click.echo("No syncer runs: start one, or it does not go on.", err=True)
                was_attended = remaining.is_attended
                note = f"{remaining.all:,} to do, {remaining.held:,} held"
                bar.show(most - remaining.all, note=note)
    if stop.is_set():
        raise KeyboardInterrupt


@dataclass(frozen=True, slots=True, kw_only=True)
class _Display:
    """How the states are shown."""

    as_json: bool
    partitions: bool

    def tables(self, states: Sequence[StreamState]) -> Group:
        parts = ("", _partitions(states)) if self.partitions else ()
        return Group(_streams(states), "", _groups(states), "", _consumers(states), *parts)


@contextlib.asynccontextmanager
async def _inspector(display: _Display) -> AsyncGenerator[Inspector]:
    """Yield what looks at the streams; only partitions cannot be shown without PostgreSQL."""
    postgres = _postgres(is_needed=display.partitions)
    async with contextlib.AsyncExitStack() as stack:
        redis = await stack.enter_async_context(open_redis(settings(StreamsSettings)))
        if postgres is None:
            yield Inspector(redis)
            return
        database = await stack.enter_async_context(open_database(postgres))
        if display.partitions:
            await database.ping()
        yield Inspector(redis, PartitionRepository(database))


async def _show(names: tuple[str, ...], display: _Display) -> None:
    async with _inspector(display) as inspector:
        states = await inspector.sampled(names, over=SAMPLE)
    if display.as_json:
        print_json(states)
    else:
        console().print(display.tables(states))


async def _watch(names: tuple[str, ...], display: _Display) -> None:
    async with _inspector(display) as inspector:
        with Live(console=console(), auto_refresh=False, screen=False) as live:
            while True:
                states = await inspector.sampled(names, over=SAMPLE)
                if display.as_json:
                    print_json(states)
                else:
                    live.update(display.tables(states), refresh=True)
                await asyncio.sleep(0)


def _streams(states: Sequence[StreamState]) -> Table:
    return table(
        ("stream", "#length", "#memory", "#entries/s", "first id", "last id"),
        (
            (
                state.name,
                state.length,
                size(state.memory),
                f"{state.per_second or 0:.1f}",
                state.first,
                state.last,
            )
            for state in states
            if state.exists
        ),
    )


def _groups(states: Sequence[StreamState]) -> Table:
    backlog = ("#undelivered", "#pending", "#oldest pending", "#retries")
    return table(
        ("stream", "group", *backlog, "#handled/s", "#consumers"),
        (
            (
                state.name,
                group.name,
                _counted(group.undelivered),
                group.pending,
                group.oldest_pending,
                group.retries,
                _rate(group.handled_per_second),
                len(group.consumers),
            )
            for state in states
            for group in state.groups
        ),
    )


def _consumers(states: Sequence[StreamState]) -> Table:
    return table(
        ("consumer", "stream", "#idle", "#pending"),
        (
            (consumer.name, state.name, consumer.idle, consumer.pending)
            for state in states
            for group in state.groups
            for consumer in group.consumers
        ),
    )


def _partitions(states: Sequence[StreamState]) -> Table:
    return table(
        ("partition", "owner", "#epoch", "position", "#lag", "#held", "#handled/s"),
        (
            (
                partition.name,
                partition.owner,
                partition.epoch,
                partition.position,
                _counted(partition.lag),
                partition.held,
                _rate(partition.handled_per_second),
            )
            for state in states
            for partition in state.partitions
        ),
    )


def _counted(number: int | None) -> str:
    return f"over {COUNTABLE:,}, how many is unknown" if number is None else f"{number:,}"


def _rate(per_second: float | None) -> str:
    return "unknown" if per_second is None else f"{per_second:,.1f}"


def _postgres(*, is_needed: bool) -> PostgresSettings | None:
    """Return where PostgreSQL is; without a word of it Redis alone is shown, where that will do."""
    try:
        return settings(PostgresSettings)
    except click.ClickException:
        if is_needed:
            raise
        return None
