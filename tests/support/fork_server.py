"""Forks the processes that tests start, from one process that imports each module once.

`python -m tests.support.fork_server NUMBER` listens at an open socket of this number until its
standard input ends; `forked_process.py` asks. A request is a line, a JSON object like `Request`,
and with it the standard streams of the process to be. The answers are its number and, at its end,
its exit code, a line each. Whoever closes the connection before that has it killed.
"""

import contextlib
import gc
import importlib
import os
import runpy
import selectors
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from types import FrameType

import orjson

from tests.support.forking import fork

STREAMS = 3
CHUNK = 1 << 16
PATIENCE_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Request:
    """`executable -m module arguments`, with nothing in its environment but this."""

    module: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    directory: str
    executable: str

    def run(self) -> None:
        """Be that process."""
        os.environ.clear()
        os.environ.update(self.environment)
        time.tzset()
        os.chdir(self.directory)
        sys.executable = self.executable
        sys.argv[1:] = self.arguments
        for name in (self.module, f"{self.module}.__main__"):
            # It is to run, which it does not where it was imported; a package is no such module.
            if not hasattr(sys.modules.get(name), "__path__"):
                sys.modules.pop(name, None)
        gc.enable()
        runpy.run_module(self.module, run_name="__main__", alter_sys=True)


class Server:
    """Forks whatever it is asked for, one after the other."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._running: dict[int, socket.socket] = {}
        self._ended: set[int] = set()
        self._selector = selectors.DefaultSelector()
        self._wakeups, waking = socket.socketpair()
        waking.settimeout(0)
        # Without a handler there would be no wake-up.
        signal.signal(signal.SIGCHLD, nothing_else)
        signal.set_wakeup_fd(waking.detach())

    def run(self) -> None:
        """Serve until standard input ends, and kill what runs then."""
        for source, react in (
            (sys.stdin, sys.exit),
            (self._listener, self._accept),
            (self._wakeups, self._tell_ends),
        ):
            self._selector.register(source, selectors.EVENT_READ, react)
        try:
            while True:
                for key, _ in self._selector.select():
                    key.data()
        finally:
            for pid in self._running:
                kill_group(pid)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.settimeout(PATIENCE_SECONDS)
        try:
            line, streams = received(connection)
        except OSError:  # who asked has died
            connection.close()
            return
        request = Request(**orjson.loads(line))
        with contextlib.suppress(ImportError):  # the process will say so itself
            import_all_of(request.module)
        gc.freeze()
        pid = fork(partial(become, request, streams))
        with contextlib.suppress(OSError):  # the child was faster
            os.setpgid(pid, pid)
        for stream in streams:
            os.close(stream)
        self._running[pid] = connection
        tell(connection, pid)
        self._selector.register(connection, selectors.EVENT_READ, partial(self._forget, pid))

    def _tell_ends(self) -> None:
        self._wakeups.recv(CHUNK)
        for pid in self._running.keys() - self._ended:
            # It is not waited for yet, so that its number is no other process's meanwhile.
            end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if end is not None:
                self._ended.add(pid)
                has_exited = end.si_code == os.CLD_EXITED
                tell(self._running[pid], end.si_status if has_exited else -end.si_status)

    def _forget(self, pid: int) -> None:
        """Have a process gone whose owner has closed the connection, with all that it started."""
        kill_group(pid)
        os.waitpid(pid, 0)
        self._ended.discard(pid)
        connection = self._running.pop(pid)
        self._selector.unregister(connection)
        connection.close()


def received(connection: socket.socket) -> tuple[bytes, list[int]]:
    """Return a line and the streams that came with it."""
    line, streams, *_ = socket.recv_fds(connection, CHUNK, STREAMS)
    while not line.endswith(b"\n"):
        more = connection.recv(CHUNK)
        if not more:
            raise ConnectionError("the connection was closed within a request")
        line += more
    return line, streams


def nothing_else(_number: int, _frame: FrameType | None) -> None: ...


def tell(connection: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # nobody wants to know any more
        connection.sendall(b"%d\n" % number)


def kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def import_all_of(module: str) -> None:
    """Import all that running the module would import, also what it imports late."""
    importlib.import_module(module)
    for late in ("__main__", "app"):
        if hasattr(sys.modules[module], "__path__") and find_spec(f"{module}.{late}"):
            importlib.import_module(f"{module}.{late}")
    if module == "ops":
        for command, _ in importlib.import_module("ops.cli").COMMANDS.values():
            importlib.import_module(command)


def become(request: Request, streams: Sequence[int]) -> None:
    """Be the process that was asked for, with nothing left of the server."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with contextlib.suppress(OSError):  # the parent was faster
        os.setpgid(0, 0)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(STREAMS, os.sysconf("SC_OPEN_MAX"))
    request.run()


def main(number: int) -> None:
    """Serve at the socket."""
    gc.disable()  # imports leave next to no garbage
    Server(socket.socket(fileno=number)).run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
