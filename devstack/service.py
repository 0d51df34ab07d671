"""A service or stand-in: a process that is ready when its health address says so."""

import asyncio
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus

import orjson

from devstack.free_ports import LOOPBACK
from devstack.process import Command, LineSink, Process, ProcessFailedError

READY_DEADLINE = timedelta(seconds=30)
PROBE_DEADLINE = timedelta(seconds=2)
POLL = timedelta(milliseconds=25)
LONGEST_PAUSE = timedelta(milliseconds=500)
# As in `shared.lifecycle`: no further try mends wrong settings.
EXIT_MISCONFIGURED = 2


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """What to run, and the port and path that answer 200 when it is ready."""

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    port: int
    ready_path: str
    grace: timedelta = timedelta(seconds=8)


def module(name: str) -> tuple[str, ...]:
    """Returns the arguments that run a module with this interpreter."""
    return (sys.executable, "-m", name)


class Service:
    """One running copy of a service."""

    def __init__(self, spec: ServiceSpec, *, on_line: LineSink) -> None:
        self.spec = spec
        self.name = spec.name
        self._on_line = on_line
        self._process: Process | None = None

    async def start(self) -> None:
        """Returns when it runs, before it is ready: what it depends on may take its time."""
        command = Command(self.spec.arguments, environment=self.spec.environment)
        self._process = await Process.start(self.name, command, on_line=self._on_line)

    async def ready(self, *, within: timedelta = READY_DEADLINE) -> bool:
        """Waits until the service is ready; False when it is not in time.

        Raises ProcessFailedError when its settings are wrong.
        """
        deadline, pause = time.monotonic() + within.total_seconds(), POLL
        while time.monotonic() < deadline:
            if self._running.exit_code == EXIT_MISCONFIGURED:
                raise ProcessFailedError(f"{self.name} ended at its start: see its lines above")
            if await answers_ok(self.spec.port, self.spec.ready_path):
                return True
            await asyncio.sleep(pause.total_seconds())
            pause = min(pause * 1.03, LONGEST_PAUSE)
        return False

    @property
    def pid(self) -> int:
        return self._running.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.is_running

    async def wait(self) -> int:
        return await self._running.wait()

    async def stop(self) -> None:
        if self._process is not None:
            await self._process.stop(grace=self.spec.grace)

    async def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()

    @property
    def _running(self) -> Process:
        if self._process is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._process


async def answers_ok(port: int, path: str) -> bool:
    """Whether a GET on the loopback address is answered with 200."""
    try:
        async with asyncio.timeout(PROBE_DEADLINE.total_seconds()):
            status, _body = await answer_of(port, path)
            return status == HTTPStatus.OK
    except (OSError, TimeoutError, ValueError):
        return False


async def what_is_lacking(service: Service) -> str:
    """Returns which checks of a service fail, as its health address says, and why."""
    try:
        async with asyncio.timeout(PROBE_DEADLINE.total_seconds()):
            _status, body = await answer_of(service.spec.port, service.spec.ready_path)
            checks: dict[str, str] = orjson.loads(body)["checks"]
    except (OSError, TimeoutError, ValueError, KeyError, TypeError):
        return f"{service.name} does not answer"
    bad = "; ".join(f"{name}: {state}" for name, state in checks.items() if state != "ok")
    return f"{service.name} ({bad})" if bad else service.name


async def answer_of(port: int, path: str) -> tuple[int, bytes]:
    """By hand, since an HTTP library takes longer to import than a service to start."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {LOOPBACK}:{port}\r\n\r\n".encode())
        _version, status, *_reason = (await reader.readline()).split()
        _headers, _, body = (await reader.read()).partition(b"\r\n\r\n")
        return int(status), body
    finally:
        writer.close()
