"""How many files a flow enters: the measure of how far it can be read from top to bottom.

Each flow runs whole in this process, API and services together. Counted are the modules of the
product in which a line ran between a request and the end of what followed from it.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any
from weakref import WeakSet

import pytest
from redis.asyncio import Redis

from shared.domain.lead import email_key
from shared.settings import CacheSettings, PostgresSettings, StreamsSettings
from tests.support.repository import ROOT
from tests.support.whole_system import OpenServices, System, open_system, services_on

# What runs beside every flow, by the names of tasks: no part of it.
CHORES = ("chore ", "sweeper", "stream capacity", "health watch")

# Idle consumers read their streams at any moment: a flow enters what it entered each time. Where
# that is too much, chance is given a few times more.
TIMES, MOST_TIMES = 4, 12

BOUNDS = {"create": 48, "cached read": 13, "summary": 50, "tick": 41, "replay": 58, "import": 57}


class Trace:
    """Notes the modules of services and shared in which a line runs, in threads too."""

    def __init__(self) -> None:
        self._entered: set[str] = set()
        self._known: dict[str, str | None] = {}
        self._of_chores: WeakSet[asyncio.Task[Any]] = WeakSet()

    @contextlib.contextmanager
    def installed(self) -> Generator[None]:
        """Watch this thread, and those that the event loop lends from now on."""
        loop = asyncio.get_running_loop()
        executor = ThreadPoolExecutor(initializer=lambda: sys.settrace(self._note))
        loop.set_default_executor(executor)
        loop.set_task_factory(self._begin)
        sys.settrace(self._note)
        try:
            yield
        finally:
            sys.settrace(None)
            loop.set_task_factory(None)
            executor.shutdown()
            loop.set_default_executor(ThreadPoolExecutor())

    async def modules(self, flow: Callable[[], Awaitable[object]]) -> set[str]:
        """Return the modules that a flow enters."""
        self._entered = set()
        await flow()
        return self._entered

    def _note(self, frame: FrameType, _event: str, _argument: Any) -> None:
        # A module that is only now imported defines things; it takes no part yet.
        if frame.f_code.co_name != "<module>":
            module = self._module(frame.f_code.co_filename)
            if module is not None and not self._is_chore():
                self._entered.add(module)

    def _begin(
        self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any
    ) -> asyncio.Task[Any]:
        """Make a task; what a chore does by several tasks is a chore too."""
        task = asyncio.Task(work, loop=loop, **options)
        if self._is_chore():
            self._of_chores.add(task)
        return task

    def _is_chore(self) -> bool:
        try:
            task = asyncio.current_task()
        except RuntimeError:  # a thread that the event loop has lent
            return False
        return task is not None and (task.get_name().startswith(CHORES) or task in self._of_chores)

    def _module(self, filename: str) -> str | None:
        if filename not in self._known:
            path = Path(filename)
            is_ours = path.is_relative_to(ROOT / "services") or path.is_relative_to(ROOT / "shared")
            self._known[filename] = str(path.relative_to(ROOT)) if is_ours else None
        return self._known[filename]

    async def always_entered(self, flow: Callable[[], Awaitable[object]], *, most: int) -> set[str]:
        """Return what a flow enters each time; a first run, which fills caches, does not count."""
        await flow()
        always = await self.modules(flow)
        for time in range(1, MOST_TIMES):
            if time >= TIMES and len(always) <= most:
                break
            always &= await self.modules(flow)
        return always


@pytest.fixture
def open_services(
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
    cache_settings: CacheSettings,
) -> OpenServices:
    return services_on(postgres_settings, streams_settings, cache_settings)


@pytest.fixture
async def system(
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
    cache_settings: CacheSettings,
    redis: Redis,
) -> AsyncGenerator[System]:
    async with open_system(postgres_settings, streams_settings, cache_settings, redis) as opened:
        yield opened


@pytest.fixture
async def trace() -> AsyncGenerator[Trace]:
    trace = Trace()
    with trace.installed():
        yield trace


async def test_flows_enter_few_files(
    system: System,
    open_services: OpenServices,
    trace: Trace,
    measure: Callable[[str], None],
) -> None:
    async with open_services():
        flows = {
            "create": system.create,
            "summary": system.summarise,
            "tick": system.tick,
            "replay": system.replay,
            "import": system.import_file,
        }
        entered = {
            name: await trace.always_entered(flow, most=BOUNDS[name])
            for name, flow in flows.items()
        }
        await system.create()
    # Without the services: they take no part, and read their streams all the while.
    name = "cached read"
    entered[name] = await trace.always_entered(system.read, most=BOUNDS[name])

    for name, modules in entered.items():
        measure(f"{name} enters {len(modules)} files, {BOUNDS[name]} at most")
    too_many = {name: sorted(one) for name, one in entered.items() if len(one) > BOUNDS[name]}
    assert too_many == {}


async def test_the_trace_sees_what_runs_in_threads_too(trace: Trace) -> None:
    modules = await trace.modules(lambda: asyncio.to_thread(email_key, "Ada@Example.com"))

    assert modules == {"shared/domain/lead.py"}


async def test_what_a_chore_starts_takes_no_part_in_a_flow(trace: Trace) -> None:
    async def key() -> None:
        email_key("Ada@Example.com")

    async def several() -> None:
        await asyncio.gather(key(), key())

    async def flow(name: str) -> None:
        await asyncio.create_task(several(), name=name)

    assert await trace.modules(lambda: flow("chore keys")) == set()
    assert await trace.modules(lambda: flow("keys")) == {"shared/domain/lead.py"}
