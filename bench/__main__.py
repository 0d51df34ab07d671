"""`python -m bench`: measures, prints a table and writes `bench/results.json`."""

import asyncio
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench.load import NoLoadError
from bench.measurement import Bench, Measurement
from bench.peer_processes import ENVIRONMENT, NoPeersError, install_peers
from bench.results import keep
from bench.works import OF_THE_API, WORKS

WIDTH = 160
RESULTS = Path(__file__).with_name("results.json")


@click.command()
@click.argument("works", nargs=-1, type=click.Choice(list(WORKS)))
@click.option("--rounds", default=5, show_default=True, help="Rounds, of which the median counts.")
@click.option("--seconds", default=5, show_default=True, help="The length of a round.")
@click.option("--backlog", default=50_000, show_default=True, help="Events that wait.")
@click.option("--rows", default=1_000_000, show_default=True, help="Leads in a large table.")
@click.option("--peers", is_flag=True, help="Measure what others build of known parts as well.")
@click.option(
    "--api-workers",
    type=click.IntRange(min=1),
    multiple=True,
    default=[1],
    show_default=True,
    help="How many processes the API has; may be given several times.",
)
@click.option(
    "--results",
    type=click.Path(path_type=Path, dir_okay=False),
    default=RESULTS,
    help="Where results are kept, those of other works too.",
)
def main(
    *,
    works: Sequence[str],
    rounds: int,
    seconds: int,
    rows: int,
    backlog: int,
    peers: bool,
    api_workers: Sequence[int],
    results: Path,
) -> None:
    """Measure WORKS, or all of them. Fails on a wrong answer, never on a slow one."""
    console = Console(width=WIDTH)
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(
            rounds=rounds,
            seconds=seconds,
            rows=rows,
            backlog=backlog,
            scratch=Path(scratch),
            peers_python=peers_python(console) if peers else None,
        )
        try:
            measured = asyncio.run(_measure(bench, works or tuple(WORKS), api_workers))
        except NoLoadError as error:
            sys.exit(str(error))
    keep(results, "works", {name: list(map(_describe, one)) for name, one in measured.items()})
    console.print(_table(one for work in measured.values() for one in work))


def peers_python(console: Console, *, environment: Path = ENVIRONMENT) -> Path | None:
    """Return the peers' interpreter, or None where their packages cannot be had."""
    try:
        return asyncio.run(install_peers(environment))
    except NoPeersError as error:
        console.print(f"Going on without the peers, as they cannot be installed: {error}")
        return None


async def _measure(
    bench: Bench, works: Sequence[str], api_workers: Sequence[int]
) -> dict[str, list[Measurement]]:
    return {
        name: [
            one
            for number in api_workers
            if number == api_workers[0] or name in OF_THE_API
            async for one in WORKS[name](replace(bench, api_workers=number))
        ]
        for name in works
    }


def _describe(one: Measurement) -> dict[str, object]:
    return {
        "work": one.work,
        "limit": one.limit,
        "perSecond": round(one.per_second, 1),
        "limitPerSecond": round(one.limit_per_second, 1),
        "ratio": round(one.ratio, 3),
        "budget": one.budget,
        "p50": round(one.p50, 2),
        "p95": round(one.p95, 2),
        "p99": round(one.p99, 2),
    }


def _table(measurements: Iterable[Measurement]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("work")
    for column in (
        "per second",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "beside it",
        "ratio",
        "budget",
    ):
        table.add_column(column, justify="right")
    table.add_column("limit or peer")
    for one in measurements:
        table.add_row(
            one.work.replace("[", "\\["),
            f"{one.per_second:,.0f}",
            f"{one.p50:.1f}",
            f"{one.p95:.1f}",
            f"{one.p99:.1f}",
            f"{one.limit_per_second:,.0f}",
            f"{one.ratio:.2f}",
            "-" if one.budget is None else f"{one.budget:.2f}",
            one.limit,
        )
    return table


if __name__ == "__main__":
    main()
