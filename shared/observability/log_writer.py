"""Writes log lines to a file: those of one turn of the event loop together.

A write for each line costs a busy process a tenth of its time: each wakes whoever reads them.
"""

import asyncio
import atexit
import contextlib
from collections import deque
from typing import BinaryIO


class LogWriter:
    """A logger for structlog, whose lines are bytes.

    Warnings and worse are written at once, and so is all where no event loop runs. What SIGKILL
    takes is the rest of one turn.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lines: deque[bytes] = deque()
        self._written_by: asyncio.AbstractEventLoop | None = None
        atexit.register(self.write)

    def info(self, line: bytes) -> None:
        """Write a line at the end of this turn."""
        self._lines.append(line)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.write()
            return
        if self._written_by is not loop:
            self._written_by = loop
            loop.call_soon(self.write)

    def warning(self, line: bytes) -> None:
        """Write a line, and what came before it, now."""
        self._lines.append(line)
        self.write()

    msg = debug = info
    error = critical = fatal = exception = warning

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
