"""The probe's exit code says what a container's healthcheck needs to know."""

import asyncio
import sys

import pytest

from devstack.free_ports import free_ports
from shared.domain.errors import UnavailableError
from shared.observability.health import Check, serve_health
from shared.settings import ObservabilitySettings
from tests.support.repository import ROOT


async def probe(url: str) -> int:
    command = (sys.executable, "-m", "shared.observability.probe", url)
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
    return await asyncio.wait_for(process.wait(), timeout=10)


async def is_well() -> None:
    """A check that finds nothing wrong."""


async def is_down() -> None:
    raise UnavailableError("down")


async def is_odd() -> None:
    raise ValueError("nobody foresaw this")


@pytest.fixture
def port() -> int:
    return next(free_ports())


@pytest.mark.parametrize(("check", "code"), [(is_well, 0), (is_down, 1), (is_odd, 1)])
async def test_it_tells_readiness(check: Check, code: int, port: int) -> None:
    settings = ObservabilitySettings(health_host="127.0.0.1", health_port=port)
    async with serve_health(settings, {"check": check}):
        assert await probe(f"http://127.0.0.1:{port}/health/ready") == code
        assert await probe(f"http://127.0.0.1:{port}/health") == 0


async def test_nobody_listening_is_not_well(port: int) -> None:
    assert await probe(f"http://127.0.0.1:{port}/health") == 1
