"""Order of starting and stopping, and what happens to a component that ends by itself."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from devstack import CannotRunError
from devstack.process import ProcessFailedError
from devstack.supervisor import DEFAULT_PACE, Pace, Supervisor, supervising
from tests.support.eventually import eventually

BRISK = Pace(
    first_backoff=timedelta(milliseconds=1),
    longest_backoff=timedelta(milliseconds=4),
    steady=timedelta(seconds=5),
    stop=timedelta(milliseconds=200),
)


class Recorded:
    """A component that records what is done to it, and ends when a test says so."""

    def __init__(self, name: str, journal: list[str]) -> None:
        self.name = name
        self.journal = journal
        self.starts = 0
        self.fails_to_start = 0
        self.start_error: Exception = ProcessFailedError(f"{name} did not start")
        self.is_deaf = False
        self._ended = asyncio.Event()

    async def start(self) -> None:
        self.starts += 1
        self.journal.append(f"start {self.name}")
        self._ended = asyncio.Event()
        if self.starts > 1 and self.fails_to_start:
            self.fails_to_start -= 1
            raise self.start_error

    async def wait(self) -> int:
        await self._ended.wait()
        return -9

    async def stop(self) -> None:
        self.journal.append(f"stop {self.name}")
        if self.is_deaf:
            await asyncio.Event().wait()
        self._ended.set()

    async def kill(self) -> None:
        self.journal.append(f"kill {self.name}")
        self._ended.set()

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set()

    def crash(self) -> None:
        self._ended.set()


@asynccontextmanager
async def brisk_supervisor(said: list[str] | None = None) -> AsyncGenerator[Supervisor]:
    lines: list[str] = [] if said is None else said
    async with supervising(say=lines.append, pace=BRISK) as supervisor:
        yield supervisor


async def test_the_last_tier_stops_first() -> None:
    journal: list[str] = []
    async with brisk_supervisor() as supervisor:
        await supervisor.start([Recorded("postgres", journal)], [Recorded("stand-in", journal)])
        await supervisor.start([Recorded("api", journal)])
    stops = [entry for entry in journal if entry.startswith("stop")]
    assert stops == ["stop api", "stop stand-in", "stop postgres"]


async def test_what_ends_by_itself_is_started_again() -> None:
    said: list[str] = []
    component = Recorded("syncer", [])
    async with brisk_supervisor(said) as supervisor:
        await supervisor.start([component])
        component.crash()
        await eventually(started_times(component, 2))
    assert said == ["syncer ended unexpectedly (SIGKILL): starting it again"]


async def test_a_start_that_fails_is_tried_again() -> None:
    component = Recorded("valkey", [])
    component.fails_to_start = 2
    async with brisk_supervisor() as supervisor:
        await supervisor.start([component])
        component.crash()
        await eventually(started_times(component, 4))


@pytest.mark.parametrize(
    "error",
    [
        ProcessFailedError("syncer did not start"),
        CannotRunError("no such program"),
        OSError("Resource temporarily unavailable"),
        ValueError("nobody foresaw this"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_one_that_always_fails_is_tried_for_ever(error: Exception) -> None:
    journal: list[str] = []
    said: list[str] = []
    hopeless, database = Recorded("syncer", journal), Recorded("postgres", journal)
    hopeless.fails_to_start, hopeless.start_error = 20, error
    async with brisk_supervisor(said) as supervisor:
        await supervisor.start([database], [hopeless])
        hopeless.crash()
        await eventually(started_times(hopeless, 22))
        assert "stop postgres" not in journal
        assert not hopeless.has_ended
    assert f"{error}\nsyncer: failed 6 times in a row, starting it again in 0.004 s" in said


async def test_one_that_starts_and_ends_is_tried_for_ever() -> None:
    journal: list[str] = []
    said: list[str] = []
    fragile, database = Recorded("summarizer", journal), Recorded("postgres", journal)
    async with brisk_supervisor(said) as supervisor:
        await supervisor.start([database], [fragile])
        for starts in range(1, 12):
            await eventually(started_times(fragile, starts))
            fragile.crash()
        assert "stop postgres" not in journal
    assert any("failed 6 times in a row" in line for line in said)


def test_pauses_grow_up_to_half_a_minute() -> None:
    pauses = [DEFAULT_PACE.backoff(failures).total_seconds() for failures in (1, 2, 3, 6, 7, 10**6)]
    assert pauses == [1, 2, 4, 30, 30, 30]


async def test_a_failed_first_start_stops_the_others() -> None:
    journal: list[str] = []
    broken = Recorded("postgres", journal)
    broken.starts, broken.fails_to_start = 1, 1
    with pytest.RaisesGroup(ProcessFailedError, flatten_subgroups=True):
        async with brisk_supervisor() as supervisor:
            await supervisor.start([broken], [Recorded("auth", journal)])
    assert "stop auth" in journal


async def test_the_deaf_are_killed_in_time() -> None:
    journal: list[str] = []
    deaf = Recorded("summarizer", journal)
    deaf.is_deaf = True
    began = time.monotonic()
    async with brisk_supervisor() as supervisor:
        await supervisor.start([Recorded("postgres", journal)], [deaf])
    assert journal[-1] in {"kill summarizer", "kill postgres"}
    assert {"kill summarizer", "kill postgres"} <= set(journal)
    assert time.monotonic() - began < 2


async def test_cancelling_the_stop_kills_at_once() -> None:
    journal: list[str] = []
    deaf = Recorded("summarizer", journal)
    deaf.is_deaf = True
    patient = Pace(stop=timedelta(seconds=60))

    async def run() -> None:
        async with supervising(say=journal.append, pace=patient) as supervisor:
            await supervisor.start([deaf])

    running = asyncio.create_task(run(), name="run")
    await eventually(has(journal, "stop summarizer"))
    running.cancel()
    await asyncio.wait([running], timeout=5)
    assert running.cancelled()
    assert journal[-1] == "kill summarizer"


def started_times(component: Recorded, times: int) -> Callable[[], Awaitable[bool]]:
    async def probe() -> bool:
        return component.starts >= times

    return probe


def has(journal: list[str], entry: str) -> Callable[[], Awaitable[bool]]:
    async def probe() -> bool:
        return entry in journal

    return probe
