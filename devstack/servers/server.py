"""The life of an embedded server: started, ready when it answers, stopped, killed, restarted."""

import asyncio
import signal
import time
from abc import ABC, abstractmethod
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from devstack.free_ports import LOOPBACK, free_port
from devstack.process import Command, LineSink, Process, ProcessFailedError

START_DEADLINE = timedelta(seconds=60)
STOP_GRACE = timedelta(seconds=5)
PROBE_DEADLINE = timedelta(seconds=10)
POLL = timedelta(milliseconds=20)


class EmbeddedServer(ABC):
    """A server on a free loopback port, ready when entered and gone when left.

    The port stays the same over restarts. What the server logs while ready goes to `on_line`.
    """

    name: str
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    host: ClassVar[str] = LOOPBACK

    def __init__(self, directory: Path, *, port: int | None, on_line: LineSink) -> None:
        self.port = port or free_port()
        self.directory = directory.absolute()
        self._on_line = on_line
        self._process: Process | None = None
        self._is_quiet = True

    @abstractmethod
    async def _prepare(self) -> Command:
        """Creates what the server needs on disk and says how to run it."""

    @abstractmethod
    async def _answers(self) -> bool:
        """Whether the server does its work; the caller bounds the time this takes."""

    @property
    def pid(self) -> int:
        return self._running.pid

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Returns when the server answers; raises ProcessFailedError with its last words."""
        command = await self._prepare()
        self._process = await Process.start(self.name, command, on_line=self._show)
        try:
            await self._until_ready(self._process)
        except BaseException:
            await self.stop()
            raise
        self._is_quiet = False

    async def wait(self) -> int:
        """Returns the exit code when the server ends."""
        return await self._running.wait()

    async def stop(self) -> None:
        """Lets the server write what is not on disk yet; kills it when that takes too long."""
        self._is_quiet = True
        if self._process is not None:
            await self._process.stop(grace=STOP_GRACE, stop_signal=self.stop_signal)

    async def kill(self) -> None:
        """Ends the server without a chance to write anything, as a crash does."""
        self._is_quiet = True
        if self._process is not None:
            self._process.kill()
            await self._process.wait()

    async def restart(self) -> None:
        """Starts again on the same port, whether the server runs now or not."""
        await self.stop()
        await self.start()

    @property
    def _running(self) -> Process:
        if self._process is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._process

    def _show(self, line: str) -> None:
        # Start-up and shutdown chatter matters in an error alone, which quotes it.
        if not self._is_quiet:
            self._on_line(line)

    async def _until_ready(self, process: Process) -> None:
        deadline = time.monotonic() + START_DEADLINE.total_seconds()
        while not await self._answers_in_time():
            if not process.is_running:
                await process.wait()
                raise ProcessFailedError(f"{self.name} did not start:\n{process.tail}")
            if time.monotonic() > deadline:
                raise ProcessFailedError(f"{self.name} does not answer:\n{process.tail}")
            await asyncio.sleep(POLL.total_seconds())

    async def _answers_in_time(self) -> bool:
        try:
            async with asyncio.timeout(PROBE_DEADLINE.total_seconds()):
                return await self._answers()
        except (OSError, TimeoutError):
            return False
