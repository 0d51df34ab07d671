"""The operators' commands, forked: Python and its imports take longer than most commands."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tests.support.forked_process import ForkedProcess, start_process

LONGEST = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class ForkedCommand:
    """A running command, which prints to files."""

    process: ForkedProcess
    scratch: Path

    async def end(self) -> tuple[int, str, str]:
        """Wait for its end; returns exit status, standard output and standard error."""
        async with asyncio.timeout(LONGEST.total_seconds()):
            code = await self.process.wait()
        output, errors = (path.read_text() for path in _output_files(self.scratch))
        return code, output, errors

    async def has_said(self, text: str) -> bool:
        """Return whether this is in its standard error by now."""
        _, errors = _output_files(self.scratch)
        return text in errors.read_text()

    def send_signal(self, number: int) -> None:
        self.process.send_signal(number)


async def start_command(
    arguments: Sequence[str], *, environment: Mapping[str, str], stdin: bytes, scratch: Path
) -> ForkedCommand:
    """Start `python -m ops` with these arguments. `scratch` is a directory of its own."""
    given = scratch / "stdin"
    given.write_bytes(stdin)
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in _output_files(scratch)]
        output, errors = (file.fileno() for file in files)
        process = await start_process(
            "ops",
            *arguments,
            environment=environment,
            stdin=stack.enter_context(given.open("rb")).fileno(),
            stdout=output,
            stderr=errors,
        )
    return ForkedCommand(process, scratch)


def _output_files(scratch: Path) -> tuple[Path, Path]:
    return scratch / "stdout", scratch / "stderr"
