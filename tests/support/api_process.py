"""The API as a process of its own."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from devstack.free_ports import free_port
from services.api.settings import ApiSettings
from tests.support.eventually import eventually
from tests.support.forked_process import ForkedProcess, start_talking


@dataclass(slots=True)
class ApiProcess:
    """A running process, its address and what it has logged."""

    process: ForkedProcess
    url: str
    lines: list[str] = field(default_factory=list[str])

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    async def collect(self) -> None:
        """Gather what the process logs, to its end."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode().rstrip())


def environment_of(settings: ApiSettings, *, port: int) -> dict[str, str]:
    """Return the environment that makes these settings."""
    redis_url = settings.streams.redis_url
    return {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "ENV_FILE": "",
        "PORT": str(port),
        "API_HOST": "127.0.0.1",
        "SUPABASE_URI": settings.auth.supabase_uri,
        "SUPABASE_KEY": settings.auth.service_key,
        "SUPABASE_CONNECTION_STRING": settings.postgres.dsn,
        "REDIS_URL": "" if redis_url is None else redis_url.get_secret_value(),
    }


@asynccontextmanager
async def running_process(settings: ApiSettings, **environment: str) -> AsyncGenerator[ApiProcess]:
    """Start `python -m services.api`, forked, and yield it once it listens."""
    port = int(environment.get("PORT") or free_port())
    variables: Mapping[str, str] = environment_of(settings, port=port) | environment
    process = await start_talking("services.api", environment=variables)
    api = ApiProcess(process, f"http://127.0.0.1:{port}")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(api.collect(), name="api output")
        try:
            await eventually(lambda: _has_started(api))
            yield api
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _has_started(api: ApiProcess) -> bool:
    # By its log, and not by its port, which it may share.
    assert api.process.returncode is None, api.output
    return "api.started" in api.output
