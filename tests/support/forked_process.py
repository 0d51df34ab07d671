"""Python processes without the time that Python and its imports take: forked by `fork_server.py`.

One server serves all processes of a test run. Tests of a start itself, and the system of tests/e2e,
have real ones.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from devstack.process import LineSink, Process
from devstack.service import Service
from tests.support.repository import ROOT

ADDRESS = "TESTS_FORK_SERVER"
FORKED_PYTHON = Path(__file__).with_name("forked_python.py")


@contextlib.contextmanager
def fork_server() -> Generator[None]:
    """Run the server, for this process and all that it starts. It imports nothing yet."""
    with (
        tempfile.TemporaryDirectory(prefix="forks-") as directory,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        os.environ[ADDRESS] = f"{directory}/socket"
        listener.bind(os.environ[ADDRESS])
        listener.listen()
        python = Path(forked_python())
        python.write_text(f"#!{sys.executable} -IS\n{FORKED_PYTHON.read_text()}")
        python.chmod(0o700)
        with subprocess.Popen(
            (sys.executable, "-m", "tests.support.fork_server", str(listener.fileno())),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        ):
            yield


def forked_python() -> str:
    """Return an interpreter that forks what it is to run, for what starts processes itself."""
    return str(Path(os.environ[ADDRESS]).with_name("python"))


@dataclass(slots=True, eq=False)
class ForkedProcess:
    """A running process, to its owner the same as one of `asyncio.subprocess`."""

    pid: int
    stdout: asyncio.StreamReader | None
    returncode: int | None
    _answers: asyncio.StreamReader
    _connection: asyncio.StreamWriter
    _end: asyncio.Task[int] | None = None

    async def wait(self) -> int:
        """Return the exit code, negative for a signal, when it has ended."""
        assert self._end is not None
        return await asyncio.shield(self._end)

    def send_signal(self, number: int) -> None:
        if self.returncode is not None:
            raise ProcessLookupError
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def watch(self) -> None:
        """Learn of its end as soon as it is there."""
        self._end = asyncio.create_task(self._ended(), name=f"end of {self.pid}")

    async def _ended(self) -> int:
        self.returncode = int(await self._answers.readline())
        self._connection.close()
        return self.returncode


async def start_process(
    module: str,
    *arguments: str,
    environment: Mapping[str, str],
    stdin: int | None = None,
    stdout: int,
    stderr: int,
) -> ForkedProcess:
    """Start `python -m module arguments` with these streams, which stay the caller's."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(os.environ[ADDRESS])
    request = {
        "module": module,
        "arguments": arguments,
        "environment": dict(environment),
        "directory": str(ROOT),
        "executable": sys.executable,
    }
    with open(os.devnull, "rb") as nothing:  # noqa: ASYNC230, PTH123 (it does not wait)
        given = nothing.fileno() if stdin is None else stdin
        line = orjson.dumps(request) + b"\n"
        sent = socket.send_fds(connection, [line], [given, stdout, stderr])
    assert sent == len(line)
    answers, writer = await asyncio.open_unix_connection(sock=connection)
    try:
        pid = await answers.readline()
        assert pid, f"no {module} was started: see what the server of the forks says"
    except BaseException:
        writer.close()  # which has it killed: nobody else knows of it
        raise
    process = ForkedProcess(int(pid), None, None, answers, writer)
    process.watch()
    return process


class _Output(asyncio.StreamReaderProtocol):
    """What comes from a pipe. Unlike a socket's other end, that of a pipe does not stay open."""

    def eof_received(self) -> bool:
        super().eof_received()
        return False


async def start_talking(
    module: str, *arguments: str, environment: Mapping[str, str]
) -> ForkedProcess:
    """Start `python -m module arguments`, whose `stdout` is all that it says."""
    reading, writing = os.pipe()
    try:
        process = await start_process(
            module, *arguments, environment=environment, stdout=writing, stderr=writing
        )
    finally:
        os.close(writing)
    process.stdout = asyncio.StreamReader()
    protocol = _Output(process.stdout)
    loop = asyncio.get_running_loop()
    try:
        await loop.connect_read_pipe(lambda: protocol, os.fdopen(reading, "rb", buffering=0))
    except BaseException:
        process.kill()  # nobody else knows of it
        raise
    return process


async def start_forked(
    name: str, module: str, *arguments: str, environment: Mapping[str, str], on_line: LineSink
) -> Process:
    """Start `python -m module arguments`, as `Process.start` does with a command."""
    child: Any = await start_talking(module, *arguments, environment=environment)
    process = Process(name, on_line, child)
    reading = process._read()  # pyright: ignore[reportPrivateUsage]
    process._reader = asyncio.create_task(reading)  # pyright: ignore[reportPrivateUsage]
    return process


class ForkedService(Service):
    """A service or stand-in that is forked; its spec's arguments are those of `module`."""

    async def start(self) -> None:
        _python, _option, module, *arguments = self.spec.arguments
        self._process = await start_forked(
            self.name,
            module,
            *arguments,
            environment=self.spec.environment,
            on_line=self._on_line,
        )
