"""The operators' commands in processes that have imported everything already.

Python and its imports take longer than most commands. So each is forked from a server that has
done that once, and finds its own environment, standard streams and signals.
"""

import asyncio
import importlib
import io
import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from ops.cli import COMMANDS, cli

LONGEST = timedelta(seconds=60)

for _module, _ in COMMANDS.values():
    importlib.import_module(_module)

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload([__name__])


@dataclass(frozen=True, slots=True)
class ForkedCommand:
    """A running command, which prints to files."""

    process: ForkServerProcess
    scratch: Path

    async def end(self) -> tuple[int, str, str]:
        """Wait for its end; returns exit status, standard output and standard error."""
        await asyncio.to_thread(self.process.join, LONGEST.total_seconds())
        assert self.process.exitcode is not None, "the command does not end"
        output, errors = (path.read_text() for path in _output_files(self.scratch))
        return self.process.exitcode, output, errors

    async def has_said(self, text: str) -> bool:
        """Return whether this is in its standard error by now."""
        _, errors = _output_files(self.scratch)
        return errors.exists() and text in errors.read_text()

    def send_signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)


async def start_command(
    arguments: Sequence[str], *, environment: Mapping[str, str], stdin: bytes, scratch: Path
) -> ForkedCommand:
    """Start `python -m ops` with these arguments. `scratch` is a directory of its own."""
    process = _server.Process(
        target=_run, args=(list(arguments), dict(environment), stdin, scratch), daemon=True
    )
    await asyncio.to_thread(process.start)
    return ForkedCommand(process, scratch)


def _output_files(scratch: Path) -> tuple[Path, Path]:
    return scratch / "stdout", scratch / "stderr"


def _run(arguments: list[str], environment: dict[str, str], stdin: bytes, scratch: Path) -> None:
    os.environ.clear()
    os.environ.update(environment)
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin))
    for number, path in enumerate(_output_files(scratch), start=1):
        with path.open("wb") as file:
            os.dup2(file.fileno(), number)
    cli(arguments, prog_name="ops")
