"""`python -m bench`: measures, prints a table and writes `bench/results.json`."""

import asyncio
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import orjson
from rich.console import Console
from rich.table import Table

from bench.load import NoLoadError
from bench.measurement import Bench, Measurement
from bench.works import WORKS

WIDTH = 140
RESULTS = Path(__file__).with_name("results.json")


@click.command()
@click.argument("works", nargs=-1, type=click.Choice(list(WORKS)))
@click.option("--rounds", default=5, show_default=True, help="Rounds, of which the median counts.")
@click.option("--seconds", default=5, show_default=True, help="The length of a round.")
@click.option("--backlog", default=50_000, show_default=True, help="Events that wait.")
@click.option("--rows", default=1_000_000, show_default=True, help="Leads in a large table.")
def main(*, works: Sequence[str], rounds: int, seconds: int, rows: int, backlog: int) -> None:
    """Measure WORKS, or all of them. Fails on a wrong answer, never on a slow one."""
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(
            rounds=rounds, seconds=seconds, rows=rows, backlog=backlog, scratch=Path(scratch)
        )
        try:
            measurements = asyncio.run(_measure(bench, works or tuple(WORKS)))
        except NoLoadError as error:
            sys.exit(str(error))
    RESULTS.write_bytes(orjson.dumps([_describe(one) for one in measurements]) + b"\n")
    Console(width=WIDTH).print(_table(measurements))


async def _measure(bench: Bench, works: Sequence[str]) -> list[Measurement]:
    return [one for name in works async for one in WORKS[name](bench)]


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
        "limit per second",
        "ratio",
        "budget",
    ):
        table.add_column(column, justify="right")
    table.add_column("limit")
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
