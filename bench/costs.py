"""`python -m bench.costs`: what a write and a read cost, in CPU time of each process and in bytes.

docs/scaling.md reckons with these. CPU time grows with what else a machine does, so that of a bare
aiohttp server is measured in the same run.
"""

import asyncio
import contextlib
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import asyncpg
import click
import orjson
from pydantic import SecretStr

from bench.load import Load, run_load
from bench.system import System, running_limit, running_system, stored_leads
from bench.works.requests import CALLERS, MANY_CALLERS, new_leads
from shared.redis_connections import open_redis
from shared.settings import StreamsSettings

Amounts: TypeAlias = "defaultdict[str, float]"

TICKS = os.sysconf("SC_CLK_TCK")
# A program's name by what is in its command line.
PROGRAMS = {
    "bench.limits.bare": "bare aiohttp",
    "services.api": "api",
    "services.syncer": "syncer",
    "services.summarizer": "summarizer",
    "ops exporter": "exporter",
    "devstack.standins": "stand-ins",
    "postgres": "PostgreSQL",
    "valkey": "Valkey",
}
_LOG = "SELECT (pg_current_wal_insert_lsn() - '0/0')::int8"
_SIZES = """
    SELECT relname, pg_total_relation_size(oid) AS bytes FROM pg_class
    WHERE relnamespace = 'leads'::regnamespace AND relkind = 'r'
"""


def descendants(pid: int) -> Iterator[int]:
    """Yield the processes below one."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            yield child
            yield from descendants(child)


def cpu_seconds() -> Amounts:
    """Return the CPU time that each program of the system has used so far."""
    used: Amounts = defaultdict(float)
    for name, place in processes():
        with contextlib.suppress(OSError):
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            used[name] += (int(fields[11]) + int(fields[12])) / TICKS
    return used


def processes() -> Iterator[tuple[str, Path]]:
    """Yield the name and the place in `/proc` of each process of the system."""
    for pid in descendants(os.getpid()):
        place = Path(f"/proc/{pid}")
        try:
            command = (place / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        for part, name in PROGRAMS.items():
            if part in command:
                yield name, place
                break


async def sizes(system: System) -> Amounts:
    """Return the bytes of the log, of each table with its indexes, and of what is in Valkey."""
    found: Amounts = defaultdict(float)
    connection = await asyncpg.connect(system.dsn)
    try:
        found["WAL"] = await connection.fetchval(_LOG)
        for row in await connection.fetch(_SIZES):
            found[row["relname"]] = row["bytes"]
    finally:
        await connection.close()
    async with open_redis(StreamsSettings(redis_url=SecretStr(system.redis_url))) as redis:
        for key in await redis.keys():
            text = key.decode() if isinstance(key, bytes) else key
            kind = text.partition(":{")[0]
            name = kind if kind.startswith("stream:") else "cache and notes"
            found[name] += await redis.memory_usage(key, samples=0) or 0
    return found


async def creates(system: System, *, seconds: int, scratch: Path) -> Mapping[str, object]:
    """Create leads for a while; returns the cost of one."""
    load = new_leads(system, MANY_CALLERS)
    await run_load(system.url, load, seconds=2, scratch=scratch)
    bytes_before, cpu_before = await sizes(system), cpu_seconds()
    done = await run_load(system.url, load, seconds=seconds, scratch=scratch)
    cpu, size = cpu_seconds(), await sizes(system)
    return {
        "creates": done.answers,
        "cpuMilliseconds": each(cpu, cpu_before, done.answers, unit=1e-3),
        "bytes": each(size, bytes_before, done.answers, unit=1),
    }


async def reads(
    url: str, path: str, headers: Mapping[str, str], *, seconds: int, scratch: Path
) -> Mapping[str, object]:
    """Read one address for a while; returns the cost of one answer."""
    load = Load(paths=[path], headers=headers, connections=CALLERS)
    await run_load(url, load, seconds=1, scratch=scratch)
    before = cpu_seconds()
    done = await run_load(url, load, seconds=seconds, scratch=scratch)
    cpu = each(cpu_seconds(), before, done.answers, unit=1e-3)
    return {"reads": done.answers, "cpuMilliseconds": cpu}


def each(after: Amounts, before: Amounts, number: int, *, unit: float) -> dict[str, float]:
    """Return the differences per answer, without those that are next to nothing."""
    shares = {name: (after[name] - before[name]) / number / unit for name in after}
    return {name: round(share, 3) for name, share in shares.items() if round(share, 3)}


async def measure(seconds: int) -> Mapping[str, object]:
    """Run a system and return all costs."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        async with running_system() as system, running_limit("bare") as bare:
            leads = await stored_leads(system, 100_000)

            async def read(url: str, path: str) -> Mapping[str, object]:
                return await reads(url, path, system.headers, seconds=seconds, scratch=place)

            return {
                "bare aiohttp": await read(bare, "/"),
                "GET /leads/{id}, cached": await read(system.url, f"/leads/{leads[0]}"),
                "GET /leads": await read(system.url, "/leads"),
                "POST /leads": await creates(system, seconds=seconds, scratch=place),
            }


@click.command()
@click.option("--seconds", default=10, show_default=True, help="How long to ask for each.")
def main(*, seconds: int) -> None:
    """Print the costs as JSON."""
    click.echo(orjson.dumps(asyncio.run(measure(seconds)), option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main()
