"""The whole system as its users run it: `python -m devstack`, and the processes under it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from dotenv import dotenv_values

from devstack.free_ports import free_port
from shared.background import background
from tests.support.eventually import eventually
from tests.support.repository import ROOT

START = timedelta(seconds=40)  # a busy machine
STOP = timedelta(seconds=10)  # what the supervisor promises
# After some deaths in a row the supervisor waits up to 10 s before it starts a component anew.
BACK = timedelta(seconds=20)
LONGEST_LINE = 1 << 20

# The part of each component's command line that no other has.
COMPONENTS = {
    "api": "services.api",
    "syncer": "services.syncer",
    "summarizer": "services.summarizer",
    "postgres": "bin/postgres",
    "valkey": "valkey-server",
    "supabase_auth": "standins.supabase_auth",
}


@dataclass(slots=True)
class Stack:
    """A running system. Its components are named as in the supervisor's log."""

    process: asyncio.subprocess.Process
    data: Path
    port: int
    lines: list[str] = field(default_factory=list[str])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    @property
    def environment(self) -> dict[str, str]:
        """What the services were started with."""
        kept = dotenv_values(self.data / "stack.env")
        return {name: value for name, value in kept.items() if value is not None}

    def pid_of(self, component: str) -> int | None:
        """Return the process of a component; None while it is not running."""
        mark = COMPONENTS[component]
        found = (pid for pid, command in children(self.process.pid) if mark in command)
        return next(found, None)

    def send(self, component: str, any_signal: signal.Signals) -> int:
        """Signal a component that runs; returns its pid."""
        pid = self.pid_of(component)
        assert pid is not None, f"{component} is not running"
        os.kill(pid, any_signal)
        return pid

    async def is_another(self, component: str, *, than: int) -> None:
        """Wait until the supervisor has started a component again."""

        async def is_back() -> bool:
            return self.pid_of(component) not in {None, than}

        await eventually(is_back, within=BACK)

    @asynccontextmanager
    async def paused(self, component: str) -> AsyncGenerator[None]:
        """Have a component stand still for the length of the block."""
        pid = self.send(component, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    async def stop(self) -> int:
        """Ask the supervisor to end; returns its exit code, and raises when it takes too long."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(STOP.total_seconds()):
            return await self.process.wait()

    async def read(self) -> None:
        """Follow the supervisor's log."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode(errors="replace").rstrip())

    async def is_ready(self) -> None:
        """Wait until all runs."""

        async def probe() -> bool:
            if self.process.returncode is not None:
                raise RuntimeError(f"the stack ended at its start:\n{self.output}")
            assert "Ready after" in self.output, self.output
            return True

        await eventually(probe, within=START)


@asynccontextmanager
async def running_stack(
    data: Path, *, python: str = sys.executable, **environment: str
) -> AsyncGenerator[Stack]:
    """Run a system of its own for the length of the block.

    With `forked_python()` it starts at once; its components cannot be told by their pids then.
    """
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(python, "-m", "devstack"),
        cwd=ROOT,
        env=_surroundings() | {"PORT": str(port), "DATA_DIR": str(data)} | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=LONGEST_LINE,
    )
    stack = Stack(process, data, port)
    try:
        async with background(stack.read(), name="read the stack's output"):
            await stack.is_ready()
            yield stack
            if process.returncode is None:
                await stack.stop()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def children(pid: int) -> Iterator[tuple[int, str]]:
    """Yield the pids and command lines of a process's children, by Linux's /proc."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            # The name in parentheses may hold spaces; what follows it may not.
            _state, parent, *_rest = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(parent) == pid:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                yield int(entry.name), command


def traces_of(data: Path) -> set[str]:
    """Return the command lines of all processes that were started for this data directory."""
    found: set[str] = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            written = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            if str(data) in written.decode(errors="replace") + str((entry / "cwd").readlink()):
                found.add((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def _surroundings() -> dict[str, str]:
    """Return what a process needs to run at all: the rest would configure the system."""
    kept = ("PATH", "HOME", "TMPDIR", "LANG", "PG_BIN", "VALKEY_BIN")
    passed = {name: os.environ[name] for name in kept if name in os.environ}
    # Tests ask more than any user may.
    return passed | {"ENV_FILE": "", "RATE_LIMIT": "off"}
