"""`python -m bench` and `python -m bench growth`: measure, print, keep and draw what was found."""

import asyncio
import contextlib
import logging
import math
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import click
import structlog
from rich.console import Console
from rich.table import Table

from bench.growth import CURVES, Curve
from bench.load import NoLoadError
from bench.measurement import Bench, Measurement
from bench.peer_processes import ENVIRONMENT, NoPeersError, install_peers
from bench.pictures import draw
from bench.results import RESULTS, keep
from bench.works import OF_THE_API, WORKS

WIDTH = 160


Command: TypeAlias = "Callable[..., None]"


def measuring(command: Command) -> Command:
    """Give a command the options that all measurements have."""
    for option in (
        click.option(
            "--rounds", default=5, show_default=True, help="Rounds, of which the median counts."
        ),
        click.option("--seconds", default=5, show_default=True, help="The length of a round."),
        click.option("--backlog", default=50_000, show_default=True, help="Events that wait."),
        click.option(
            "--results",
            type=click.Path(path_type=Path, dir_okay=False),
            default=RESULTS,
            help="Where results are kept, those of other works too.",
        ),
        click.option("--draw", is_flag=True, help="Draw all results that are kept in docs/img."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("works", nargs=-1, type=click.Choice(list(WORKS)))
@measuring
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
def main(
    *, works: Sequence[str], peers: bool, api_workers: Sequence[int], rows: int, **options: Any
) -> None:
    """Measure WORKS, or all of them; `growth` measures how cost grows.

    Fails on a wrong answer, never on a slow one.
    """
    console = Console(width=WIDTH)
    python = peers_python(console) if peers else None
    with _measuring(options, rows=rows, peers_python=python) as bench:
        measured = asyncio.run(_measure(bench, works or tuple(WORKS), api_workers))
    described = {name: list(map(_describe, one)) for name, one in measured.items()}
    _keep("works", described, options)
    console.print(_table(one for work in measured.values() for one in work))


@click.command()
@click.argument("curves", nargs=-1, type=click.Choice(list(CURVES)))
@measuring
@click.option("--most", type=int, help="Where curves end, instead of their own ends.")
def growth(*, curves: Sequence[str], most: int | None, **options: Any) -> None:
    """Measure how cost grows with what CURVES are named after, or all of them."""
    found: dict[str, Curve] = {}
    with _measuring(options) as bench:
        for name in curves or tuple(CURVES):
            measure, end = CURVES[name]
            found[name] = asyncio.run(measure(bench, end if most is None else most))
    _keep("growth", {name: curve.described for name, curve in found.items()}, options)
    for curve in found.values():
        click.echo(f"{curve.title} ({curve.x}: {curve.y})")
        for name, points in curve.series.items():
            told = "  ".join(f"{x:,.0f}: {y:,.1f}" for x, y in points)
            click.echo(f"  {name:24} {told}")


@contextlib.contextmanager
def _measuring(
    options: Mapping[str, Any], *, rows: int = 0, peers_python: Path | None = None
) -> Generator[Bench]:
    # What is published in this process is no news; the services' own lines are dropped elsewhere.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as scratch:
        try:
            yield Bench(
                rounds=options["rounds"],
                seconds=options["seconds"],
                rows=rows,
                backlog=options["backlog"],
                scratch=Path(scratch),
                peers_python=peers_python,
            )
        except NoLoadError as error:
            sys.exit(str(error))


def _keep(kind: str, results: Mapping[str, object], options: Mapping[str, Any]) -> None:
    keep(options["results"], kind, results)
    if options["draw"]:
        draw(options["results"])


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
        "figures": one.figures,
        "ratio": round(one.ratio, 3) if math.isfinite(one.ratio) else None,
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
            one.figures[1],
            f"{one.ratio:.2f}",
            "-" if one.budget is None else f"{one.budget:.2f}",
            one.limit,
        )
    return table


if __name__ == "__main__":
    if sys.argv[1:2] == ["growth"]:
        growth(sys.argv[2:])
    else:
        main()
