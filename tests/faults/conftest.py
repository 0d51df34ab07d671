"""The system for all tests of this folder, chance with a seed, and the table at the end."""

import random
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from devstack.data_directory import scratch_directory
from shared.settings import PostgresSettings, StreamsSettings
from shared.storage.pool import Database
from tests.faults.database import Tables
from tests.faults.scale import FULL, OF_THE_SYSTEM, SEED
from tests.faults.summarizers import Summarizers, environment_of
from tests.faults.syncer_pool import SyncerPool, open_syncer_pool
from tests.faults.system import System, open_system

HERE = str(Path(__file__).parent.relative_to(Path(__file__).parents[2]))

Figure = Callable[[str], None]


@pytest.fixture(scope="package")
async def running_system() -> AsyncGenerator[System]:
    with scratch_directory() as directory:
        async with open_system(directory) as system:
            yield system


@pytest.fixture
async def system(running_system: System) -> AsyncGenerator[System]:
    """Yield a system in which everything runs and is ready; no service may end by itself."""
    await running_system.repair()
    yield running_system
    assert running_system.crashed == []


@pytest.fixture
def summarizers(database: Database, redis: Redis, postgres_dsn: str, redis_url: str) -> Summarizers:
    """Return summarizers with an empty database and Redis."""
    return Summarizers(
        database=database,
        redis=redis,
        tables=Tables(postgres_dsn),
        environment=environment_of(postgres_dsn=postgres_dsn, redis_url=redis_url),
    )


@pytest.fixture
async def pool(
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
) -> AsyncGenerator[SyncerPool]:
    """Yield what starts syncers on an empty database and Redis."""
    async with open_syncer_pool(postgres_settings, streams_settings) as opened:
        yield opened


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Return chance that is the same for the same seed and test."""
    return random.Random(f"{SEED} {request.node.name}")


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Figure:
    """Return what notes a test's figure for the table."""

    def note(text: str) -> None:
        record_property("figure", text)

    return note


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no process is left alone with it.

    Those are the promises of a running system, and then the last ones.
    """
    here = [item for item in items if item.path.is_relative_to(Path(__file__).parent)]
    here.sort(key=lambda item: item.path.name, reverse=True)
    here.sort(key=lambda item: item.path.name.split("_")[1] not in OF_THE_SYSTEM)
    others = [item for item in items if not item.path.is_relative_to(Path(__file__).parent)]
    items[:] = [*here, *others]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if report.when == "call" and report.nodeid.startswith(HERE)
    ]
    if not reports:
        return
    table = Table("promise", "figure", "result", "seconds", title_justify="left")
    table.title = f"Fault suite, {'full' if FULL else 'short'} scale, SEED={SEED}"
    for report in sorted(reports, key=lambda one: (promise_of(one), "control" in one.nodeid)):
        table.add_row(*row(report))
    terminalreporter.ensure_newline()
    Console(file=sys.stdout, width=120).print(table)


def row(report: pytest.TestReport) -> Iterator[str]:
    is_control = "::test_control" in report.nodeid
    yield "  control" if is_control else promise_of(report)
    figures = [str(value) for name, value in report.user_properties if name == "figure"]
    yield figures[0] if figures else report.nodeid.rpartition("::")[2]
    if report.passed:
        yield "red, as it must be" if is_control else "kept"
    else:
        yield "NOT NOTICED" if is_control else "BROKEN"
    yield f"{report.duration:.1f}"


def promise_of(report: pytest.TestReport) -> str:
    """Return `I07` for `tests/faults/test_i07_....py::...`."""
    return Path(report.nodeid.partition("::")[0]).stem.split("_")[1].upper()
