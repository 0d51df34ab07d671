"""Any service as a process of its own, and all that it says."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta

from shared.background import background
from tests.support.eventually import eventually
from tests.support.forked_process import ForkedProcess, start_talking

START = timedelta(seconds=30)  # a busy machine


@dataclass(slots=True)
class ServiceProcess:
    """A running process and the lines it has written."""

    process: ForkedProcess
    lines: list[str] = field(default_factory=list[str])

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    async def read(self) -> None:
        """Follow what the process writes, to its end."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode(errors="replace").rstrip())

    async def says(self, text: str, *, times: int = 1) -> None:
        """Wait until the process has written something."""

        async def has_said() -> bool:
            assert self.process.returncode is None, self.output
            return self.output.count(text) >= times

        await eventually(has_said, within=START)


@asynccontextmanager
async def running_service(
    module: str, environment: Mapping[str, str]
) -> AsyncGenerator[ServiceProcess]:
    """Run `python -m module`, forked, for the block's length, from when it says that it started."""
    process = await start_talking(module, environment=environment)
    service = ServiceProcess(process)
    try:
        async with background(service.read(), name=f"read {module}"):
            await service.says(".started")
            yield service
            process.terminate()
            await process.wait()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
