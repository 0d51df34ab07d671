"""The process that forks syncers to die at a point, as its owner sees it."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.faults.crashing_syncer import Point
from tests.support.repository import ROOT

ANSWERS = (b"died\n", b"lived\n")


@dataclass(frozen=True, slots=True)
class ForkServer:
    """Forks one syncer at a time."""

    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader

    async def dies(self, point: Point, mark: str, parts: str = "good") -> bool:
        """Let one syncer run; tells whether it died where it should."""
        self.stdin.write(f"{point} {mark} {parts}\n".encode())
        async with asyncio.timeout(20):
            while (line := await self.stdout.readline()) not in ANSWERS:
                assert line, "the process has ended"  # else it is the syncer's log
        return line == ANSWERS[0]


@asynccontextmanager
async def open_fork_server(environment: Mapping[str, str]) -> AsyncGenerator[ForkServer]:
    """Start the process with a syncer's settings, and kill it at the end of the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.crashing_syncer"),
        env=environment,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield ForkServer(process.stdin, process.stdout)
    finally:
        process.kill()
        await process.wait()
