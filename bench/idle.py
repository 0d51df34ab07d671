"""`python -m bench.idle`: how soon the system is ready, its memory, and what it costs at rest."""

import asyncio
import contextlib
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import click
import orjson

from bench.costs import Amounts, cpu_seconds, processes
from bench.load import run_load
from bench.system import running_system
from bench.works.requests import CALLERS, new_leads
from devstack.data_directory import scratch_directory

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def memory() -> Mapping[str, float]:
    """Return the resident memory in MB of the largest process of each program."""
    found: Amounts = defaultdict(float)
    for name, place in processes():
        with contextlib.suppress(OSError):
            pages = int((place / "statm").read_text().split()[1])
            found[name] = max(found[name], round(pages * PAGE_BYTES / 1e6, 1))
    return found


async def idle(seconds: float) -> Mapping[str, float]:
    """Return how much of a core, in percent, each program takes while nobody asks."""
    before, begun = cpu_seconds(), time.monotonic()
    await asyncio.sleep(seconds)
    after, took = cpu_seconds(), time.monotonic() - begun
    shares = {name: round((after[name] - before[name]) / took * 100, 2) for name in after}
    return {**shares, "all": round(sum(shares.values()), 2)}


async def measure(*, load: int, rest: int) -> Mapping[str, object]:
    """Start a system twice; returns what was measured of the second start, load and rest."""
    with scratch_directory() as data, tempfile.TemporaryDirectory() as scratch:
        async with running_system(DATA_DIR=str(data)) as system:
            first = system.ready_after
        async with running_system(DATA_DIR=str(data)) as system:
            started = memory()
            await run_load(
                system.url, new_leads(system, CALLERS), seconds=load, scratch=Path(scratch)
            )
            return {
                "readySeconds": {"first": round(first, 2), "again": round(system.ready_after, 2)},
                "megabytes": {"started": started, f"after {load} s of creates": memory()},
                "idlePercentOfACore": await idle(rest),
            }


@click.command()
@click.option("--load", default=600, show_default=True, help="Seconds of creates, then memory.")
@click.option("--rest", default=60, show_default=True, help="Seconds of rest, for the CPU.")
def main(*, load: int, rest: int) -> None:
    """Print start, memory and the CPU of an idle system as JSON."""
    click.echo(orjson.dumps(asyncio.run(measure(load=load, rest=rest)), option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main()
