"""`ops streams`."""

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import timedelta

import click
from rich.console import Group
from rich.live import Live

from ops.output import as_json, console, print_json, size, table
from ops.running import run, settings
from shared.events.catalog import STREAMS
from shared.redis_connections import open_redis
from shared.settings import StreamsSettings
from shared.streams.consuming.settlement import DEAD_LETTERS
from shared.streams.inspection import COUNTED, GroupState, Inspector, StreamState

SAMPLE = timedelta(seconds=1)


@click.command("streams")
@click.argument("names", nargs=-1)
@click.option("--watch", is_flag=True, help="Go on until interrupted, each second anew.")
@as_json
def command(*, names: tuple[str, ...], watch: bool, as_json: bool) -> None:
    """Show streams, groups and consumers.

    NAMES are streams; without any, all are shown. "undelivered" is counted, not taken from
    Redis' own figure of the lag, which is missing or wrong after deletions and trims.
    """
    wanted = names or (*STREAMS, DEAD_LETTERS)
    with contextlib.suppress(KeyboardInterrupt):
        run(_watch(wanted, as_json=as_json) if watch else _show(wanted, as_json=as_json))


async def _show(names: tuple[str, ...], *, as_json: bool) -> None:
    async with open_redis(settings(StreamsSettings)) as redis:
        states = await Inspector(redis).sampled(names, over=SAMPLE)
    if as_json:
        print_json(states)
    else:
        console().print(_tables(states))


async def _watch(names: tuple[str, ...], *, as_json: bool) -> None:
    async with open_redis(settings(StreamsSettings)) as redis:
        inspector = Inspector(redis)
        with Live(console=console(), auto_refresh=False, screen=False) as live:
            while True:
                states = await inspector.sampled(names, over=SAMPLE)
                if as_json:
                    print_json(states)
                else:
                    live.update(_tables(states), refresh=True)
                await asyncio.sleep(0)


def _tables(states: list[StreamState]) -> Group:
    return Group(
        table(
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
        ),
        "",
        table(
            (
                "stream",
                "group",
                "#undelivered",
                "#pending",
                "#oldest pending",
                "#retries",
                "#consumers",
            ),
            (
                (
                    state.name,
                    group.name,
                    _undelivered(group),
                    group.pending,
                    group.oldest_pending,
                    group.retries,
                    len(group.consumers),
                )
                for state in states
                for group in state.groups
            ),
        ),
        "",
        table(("consumer", "stream", "#idle", "#pending"), _consumers(states)),
    )


def _undelivered(group: GroupState) -> str:
    if group.undelivered is None:
        return f"over {COUNTED:,}, how many is unknown"
    return f"{group.undelivered:,}"


def _consumers(states: list[StreamState]) -> Iterator[tuple[object, ...]]:
    for state in states:
        for group in state.groups:
            for consumer in group.consumers:
                yield consumer.name, state.name, consumer.idle, consumer.pending
