"""One child process: its output read line by line, its end awaited, and no orphan left."""

import asyncio
import os
import shutil
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from devstack import CannotRunError

PARENT_DEATH = Path(__file__).with_name("parent_death.py")
TAIL_LINES = 40
CHUNK_BYTES = 65_536
LONGEST_LINE_BYTES = 1_048_576
OUTPUT_GRACE = timedelta(seconds=1)

LineSink = Callable[[str], None]


class ProcessFailedError(CannotRunError):
    """A process did not start, or ended when it should have run on."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user and group a process runs as."""

    user_id: int
    group_id: int


@dataclass(frozen=True, slots=True)
class Command:
    """What to run. `environment` replaces the caller's as a whole; None inherits it."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] | None = None
    directory: Path | None = None
    account: Account | None = None
    # What the kernel sends when this process's parent dies by kill -9.
    orphan_signal: signal.Signals = signal.SIGKILL


@dataclass(slots=True)
class Process:
    """A running child in a session of its own, so that a terminal's Ctrl-C is ours to pass on."""

    name: str
    on_line: LineSink
    _child: asyncio.subprocess.Process
    _tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    _reader: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, name: str, command: Command, *, on_line: LineSink) -> "Process":
        child = await asyncio.create_subprocess_exec(
            *ending_with_parent(command),
            env=command.environment,
            cwd=command.directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        process = cls(name, on_line, child)
        process._reader = asyncio.create_task(process._read(), name=f"{name} output")
        return process

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def is_running(self) -> bool:
        return self._child.returncode is None

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._child.returncode

    @property
    def tail(self) -> str:
        """The last lines the process wrote."""
        return "\n".join(self._tail)

    async def wait(self) -> int:
        """Returns the exit code, negative for a signal, once all output has been passed on."""
        code = await self._child.wait()
        if self._reader is not None:
            # A grandchild that lives on may hold the pipe open: do not wait for it for ever.
            await asyncio.wait([self._reader], timeout=OUTPUT_GRACE.total_seconds())
            self._reader.cancel()
        return code

    async def stop(self, *, grace: timedelta, stop_signal: signal.Signals = signal.SIGTERM) -> int:
        """Asks the process to end; kills it and all it started when the grace is over."""
        self.send(stop_signal)
        try:
            async with asyncio.timeout(grace.total_seconds()):
                return await self.wait()
        except TimeoutError:
            self.kill()
            return await self.wait()

    def send(self, any_signal: signal.Signals) -> None:
        if self.is_running:
            self._child.send_signal(any_signal)

    def kill(self) -> None:
        """Ends the process and whatever it started, at once."""
        if self.is_running:
            os.killpg(self.pid, signal.SIGKILL)

    async def _read(self) -> None:
        if self._child.stdout is None:
            return
        async for line in lines(self._child.stdout):
            self._tail.append(line)
            self.on_line(line)


def ending_with_parent(command: Command) -> tuple[str, ...]:
    account = command.account
    program, *arguments = command.arguments
    return (
        *(sys.executable, "-I", "-S", str(PARENT_DEATH)),
        *(str(os.getpid()), str(int(command.orphan_signal))),
        *((str(account.user_id), str(account.group_id)) if account else ("-", "-")),
        shutil.which(program) or program,
        *arguments,
    )


async def run_to_end(
    name: str, command: Command, *, deadline: timedelta, on_line: LineSink | None = None
) -> str:
    """Runs a short command and returns what it wrote.

    Raises ProcessFailedError with its last lines when it fails or takes too long.
    """
    process = await Process.start(name, command, on_line=on_line or ignore_line)
    try:
        async with asyncio.timeout(deadline.total_seconds()):
            code = await process.wait()
    except TimeoutError:
        raise ProcessFailedError(
            f"{name} took longer than {deadline.total_seconds():g} s:\n{process.tail}"
        ) from None
    finally:
        process.kill()
    if code != 0:
        raise ProcessFailedError(f"{name} failed with exit code {code}:\n{process.tail}")
    return process.tail


async def lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Splits output into lines; one longer than a mebibyte arrives in pieces.

    `StreamReader.readline` raises for lines over 64 KiB, and log lines get that long.
    """
    rest = b""
    while chunk := await stream.read(CHUNK_BYTES):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace").rstrip("\r")
        if len(rest) >= LONGEST_LINE_BYTES:
            yield rest.decode(errors="replace")
            rest = b""
    if rest:
        yield rest.decode(errors="replace")


def ignore_line(_line: str) -> None:
    """The sink of a caller that reads the tail alone."""
