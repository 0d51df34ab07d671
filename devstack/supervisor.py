"""Keeps components running, and ends them in order."""

import asyncio
import signal
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the supervisor waits for what.

    `steady` is how long a component runs that was not broken from the start; `stop` is for all
    tiers together.
    """

    first_backoff: timedelta = timedelta(seconds=1)
    longest_backoff: timedelta = timedelta(seconds=30)
    steady: timedelta = timedelta(seconds=10)
    stop: timedelta = timedelta(seconds=9.5)

    def backoff(self, failures: int) -> timedelta:
        # 2 to the 30th is longer than any pause, and a number that a time span can hold.
        return min(self.first_backoff * (1 << min(failures - 1, 30)), self.longest_backoff)


DEFAULT_PACE = Pace()


class Component(Protocol):
    """A server, stand-in or service; `stop` and `kill` do nothing to one that does not run."""

    name: str

    async def start(self) -> None: ...
    async def wait(self) -> int: ...
    async def stop(self) -> None: ...
    async def kill(self) -> None: ...


Tier = Sequence[Component]


class Supervisor:
    """Starts tiers of components, restarts what ends by itself, stops the last tier first.

    It never gives up: what keeps a component from running may pass, and the others run meanwhile.
    """

    def __init__(self, group: asyncio.TaskGroup, *, say: Callable[[str], None], pace: Pace) -> None:
        self._group = group
        self._say = say
        self._pace = pace
        self._tiers: list[Tier] = []
        self._keepers: list[asyncio.Task[None]] = []

    async def start(self, *tiers: Tier) -> None:
        """Starts all tiers at once; their order is that of a later stop, reversed."""
        self._tiers.extend(tiers)
        components = tuple(chain.from_iterable(tiers))
        async with asyncio.TaskGroup() as starts:
            for component in components:
                starts.create_task(component.start(), name=f"start {component.name}")
        for component in components:
            keeper = self._group.create_task(self._keep(component), name=f"keep {component.name}")
            self._keepers.append(keeper)

    async def stop(self) -> None:
        """Stops all in the time there is for it; late or cancelled, it kills what is left."""
        for keeper in self._keepers:
            keeper.cancel()
        deadline = time.monotonic() + self._pace.stop.total_seconds()
        try:
            for tier in reversed(self._tiers):
                await on_all("stop", tier, lambda one: one.stop(), until=deadline)
        finally:
            await on_all("kill", chain(*self._tiers), lambda one: one.kill())

    async def _keep(self, component: Component) -> None:
        failures = 0
        while True:
            started = time.monotonic()
            code = await component.wait()
            was_steady = time.monotonic() - started > self._pace.steady.total_seconds()
            failures = 1 if was_steady else failures + 1
            self._say(
                f"{component.name} ended unexpectedly ({meaning(code)}): {self._next_try(failures)}"
            )
            failures = await self._start_again(component, failures)

    async def _start_again(self, component: Component, failures: int) -> int:
        """Start a component however often that fails; returns how many failures there were."""
        while True:
            await asyncio.sleep(self._pace.backoff(failures).total_seconds())
            try:
                await component.start()
            except Exception as error:  # noqa: BLE001 (whatever it is, the others go on)
                failures += 1
                self._say(f"{error}\n{component.name}: {self._next_try(failures)}")
            else:
                return failures

    def _next_try(self, failures: int) -> str:
        if failures == 1:
            return "starting it again"
        seconds = self._pace.backoff(failures).total_seconds()
        return f"failed {failures} times in a row, starting it again in {seconds:g} s"


@asynccontextmanager
async def supervising(
    *, say: Callable[[str], None], pace: Pace = DEFAULT_PACE
) -> AsyncGenerator[Supervisor]:
    """Yields a supervisor and stops all it started at the end, however that comes."""
    async with asyncio.TaskGroup() as group:
        supervisor = Supervisor(group, say=say, pace=pace)
        try:
            yield supervisor
        finally:
            await supervisor.stop()


async def on_all(
    verb: str,
    components: Iterable[Component],
    action: Callable[[Component], Coroutine[Any, Any, None]],
    *,
    until: float | None = None,
) -> None:
    """Does it to all at once and waits, at most until that time of the monotonic clock."""
    tasks = [asyncio.create_task(action(one), name=f"{verb} {one.name}") for one in components]
    if tasks:
        timeout = None if until is None else max(0, until - time.monotonic())
        await asyncio.wait(tasks, timeout=timeout)


def meaning(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
