"""Writes log lines to a file: those of one turn of the event loop together, and of more when busy.

A write for each line, or for each turn, costs a busy process a tenth of its time: each wakes
whoever reads them.
"""

import asyncio
import atexit
import contextlib
import time
from collections import deque
from datetime import timedelta
from typing import BinaryIO

# Who has just written gathers lines for so long.
PAUSE = timedelta(milliseconds=10)


class LogWriter:
    """A logger for structlog, whose lines are bytes.

    Warnings and worse are written at once, and so is all where no event loop runs. Other lines are
    at the end of their turn, or `PAUSE` after the last write, which is what SIGKILL takes.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lines: deque[bytes] = deque()
        self._paused_until = 0.0
        self._written_by: asyncio.AbstractEventLoop | None = None
        atexit.register(self.write)

    def info(self, line: bytes) -> None:
        """Write a line soon."""
        self._lines.append(line)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.write()
            return
        if self._written_by is not loop:
            self._written_by = loop
            pause = self._paused_until - time.monotonic()
            if pause > 0:
                loop.call_later(pause, self._write_then_pause)
            else:
                loop.call_soon(self._write_then_pause)

    def warning(self, line: bytes) -> None:
        """Write a line, and what came before it, now."""
        self._lines.append(line)
        self.write()

    msg = debug = info
    error = critical = fatal = exception = warning

    def _write_then_pause(self) -> None:
        self._paused_until = time.monotonic() + PAUSE.total_seconds()
        self.write()

    def write(self) -> None:
        """Write what waits."""
        self._written_by = None
        lines: list[bytes] = []
        with contextlib.suppress(IndexError):
            while True:  # another thread may write, too
                lines.append(self._lines.popleft())
        if lines:
            self._file.write(b"\n".join(lines) + b"\n")
            self._file.flush()
