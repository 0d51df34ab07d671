"""Runs the peers: an environment of their own, and the processes and the database of each."""

import asyncio
import contextlib
import shutil
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

import asyncpg
import httpx
from yarl import URL

from bench.system import System
from devstack.free_ports import LOOPBACK, free_port
from devstack.process import ignore_line
from devstack.service import Service, ServiceSpec

ROOT = Path(__file__).parents[1]
LOCK = Path(__file__).with_name("peers") / "requirements.lock"
ENVIRONMENT = ROOT / ".bench-peers"
# A copy of the lock file that was installed, written last.
STAMP = "installed.lock"
INSTALL = timedelta(minutes=5)
START = timedelta(seconds=60)
POLL = timedelta(milliseconds=100)
SAMPLE = {"firstName": "Ada", "lastName": "Lovelace", "email": "first@example.com"}


class NoPeersError(Exception):
    """The peers cannot be installed; the message says why."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A program of `bench.peers`, with or without a worker beside its API."""

    name: str
    module: str
    has_worker: bool = True
    budget: float | None = None


FASTAPI = Peer("FastAPI + asyncpg", "fastapi_asyncpg", has_worker=False, budget=1.75)
PEERS = (
    FASTAPI,
    Peer("taskiq on Redis Streams", "taskiq_streams", budget=5),
    Peer("FastStream on Redis Streams", "faststream_streams"),
)


@dataclass(frozen=True, slots=True)
class RunningPeer:
    """Where a peer is, and the database that it has for itself."""

    name: str
    url: str
    dsn: str
    budget: float | None = None


async def install_peers(environment: Path = ENVIRONMENT, lock: Path = LOCK) -> Path:
    """Return the interpreter that has the peers' packages, installed unless they are already.

    Raises `NoPeersError` where the package index does not answer.
    """
    python = environment / "bin/python"
    if _has_installed(environment, lock):
        return python
    uv = Path(sys.executable).with_name("uv")
    shutil.rmtree(environment, ignore_errors=True)
    await _run(str(uv), "venv", "--quiet", "--python", sys.executable, str(environment))
    await _run(
        *(str(uv), "pip", "--system-certs", "install", "--quiet", "--python", str(python)),
        *("--require-hashes", "-r", str(lock)),
    )
    shutil.copyfile(lock, environment / STAMP)
    return python


def _has_installed(environment: Path, lock: Path) -> bool:
    stamp = environment / STAMP
    return stamp.exists() and stamp.read_bytes() == lock.read_bytes()


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(INSTALL.total_seconds()):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise NoPeersError(output.decode().strip())


@contextlib.asynccontextmanager
async def running_peer(
    peer: Peer, system: System, *, python: Path, processes: int = 1
) -> AsyncGenerator[RunningPeer]:
    """Run a peer beside a system, on its servers, with so many processes of its API."""
    dsn = await _new_database(system.dsn, f"{peer.module}_{processes}")
    port = free_port()
    with tempfile.TemporaryDirectory() as scratch:
        environment = {
            "PYTHONPATH": str(ROOT),
            "PEER_DSN": dsn,
            # The system's streams are in the first database.
            "PEER_REDIS_URL": str(URL(system.redis_url).with_path("/1")),
            "PEER_JWKS": system.jwks_url,
            "HOME": scratch,
        }
        services = list(_services(peer, environment, python=python, port=port, copies=processes))
        try:
            for service in services:
                await service.start()
            url = f"http://{LOOPBACK}:{port}"
            await _until_creating(url, system.headers)
            yield RunningPeer(peer.name, url, dsn, peer.budget)
        finally:
            for service in services:
                await service.kill()


def _services(
    peer: Peer, environment: Mapping[str, str], *, python: Path, port: int, copies: int
) -> list[Service]:
    program = (str(python), "-m", f"bench.peers.{peer.module}")
    commands = [(*program, str(port))] * copies + [program] * peer.has_worker
    return [
        Service(
            ServiceSpec(peer.module, command, environment, port, "/health"), on_line=ignore_line
        )
        for command in commands
    ]


async def _new_database(dsn: str, name: str) -> str:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
    return str(URL(dsn).with_path(f"/{name}"))


async def _until_creating(url: str, headers: Mapping[str, str]) -> None:
    """Wait until a lead is created: then the API, its worker and its database are all there."""
    async with (
        asyncio.timeout(START.total_seconds()),
        httpx.AsyncClient(base_url=url, headers=headers, timeout=2) as http,
    ):
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = await http.post("/leads", json=SAMPLE)
                if answer.status_code in {HTTPStatus.CREATED, HTTPStatus.CONFLICT}:
                    return
            await asyncio.sleep(POLL.total_seconds())
