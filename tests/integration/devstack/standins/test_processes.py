"""Each stand-in as a process: set by its environment, and gone on SIGTERM."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.eventually import eventually
from tests.support.forked_process import forked_python

REPOSITORY = Path(__file__).parents[4]
DEADLINE_SECONDS = 15


@asynccontextmanager
async def process(
    name: str, environment: Mapping[str, str]
) -> AsyncGenerator[tuple[asyncio.subprocess.Process, str]]:
    """Yields the process and the address it says it listens on."""
    child = await asyncio.create_subprocess_exec(
        *(forked_python(), "-m", f"devstack.standins.{name}"),
        cwd=REPOSITORY,
        env={**os.environ, "ENV_FILE": "", **environment},
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            line = (await child.stdout.readline()).decode()
        yield child, line.split()[-1]
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def calls_under_way(http: httpx.AsyncClient, url: str) -> int:
    view = (await http.get(f"{url}/_control")).json()
    return int(view["counters"].get("in_flight", 0))


@pytest.mark.parametrize("name", ["supabase_auth", "groq", "randomuser"])
async def test_is_healthy_and_ends_on_sigterm_even_while_it_hangs(
    name: str, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    environment = {"STANDIN_DATA_DIR": str(tmp_path), "STANDIN_FAULTS": '{"hang": true}'}
    async with process(name, environment) as (child, url):
        assert (await http.get(f"{url}/health")).status_code == 200
        hanging = asyncio.create_task(http.get(f"{url}/auth/v1/x"), name="hanging call")
        await eventually(lambda: calls_under_way(http, url))
        async with asyncio.timeout(DEADLINE_SECONDS):
            child.send_signal(signal.SIGTERM)
            assert await child.wait() == 0
            assert (await hanging).status_code == 503


async def test_says_what_is_missing_from_its_environment(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if "STANDIN" not in name}
    child = await asyncio.create_subprocess_exec(
        *(forked_python(), "-m", "devstack.standins.supabase_auth"),
        cwd=REPOSITORY,
        env={**environment, "ENV_FILE": "", "HOME": str(tmp_path)},
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(DEADLINE_SECONDS):
        _, errors = await child.communicate()
    assert child.returncode != 0
    assert b"DATA_DIR" in errors
