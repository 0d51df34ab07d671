"""Syncers that a test starts, stops, kills and puts to sleep, and what they own."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

import orjson

from shared.background import end
from shared.events import catalog
from shared.events.partitions import Division, Layout
from shared.redis_connections import open_redis
from shared.settings import PostgresSettings, StreamsSettings
from shared.streams.ordering.layout import Divisions
from tests.faults.database import Tables
from tests.faults.system import inherited, say
from tests.support.eventually import eventually
from tests.support.repository import ROOT

# As many as the most syncers of a test.
PARTITIONS = 8
LEASE = timedelta(seconds=1)
FORKED, ENDED = "forked ", "ended"
IMPATIENT = {
    "ENV_FILE": "",
    "LOG_LEVEL": "ERROR",
    "SYNC_ENABLED": "false",
    "STREAM_LEASE": str(LEASE.total_seconds()),
    "STREAM_BLOCK": "0.1",
}

_OWNERS = """
    SELECT number, process FROM leads.partition LEFT JOIN leads.member ON token = owner
    ORDER BY number
"""


class SyncerForks:
    """The process that forks syncers, as its owner sees it. Use through `open_syncer_forks`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._answers: asyncio.Queue[str] = asyncio.Queue()

    async def fork(self, role: str, environment: Mapping[str, str], *, number: int) -> list[int]:
        """Start syncers in a role; returns their processes."""
        request = orjson.dumps({"role": role, "environment": environment}) + b"\n"
        self._send(request * number)
        return [int((await self._answers.get()).split()[1]) for _ in range(number)]

    async def end_all(self) -> None:
        """Kill all that were started, also those whose start nobody waited for."""
        self._send(b"\n")
        while await self._answers.get() != ENDED:
            pass

    async def listen(self) -> None:
        """Take in what the process says, forever."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            text = line.decode().rstrip()
            if text.startswith((FORKED, ENDED)):
                self._answers.put_nowait(text)
            else:
                say("syncer", text)

    def _send(self, request: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(request)


@asynccontextmanager
async def open_syncer_forks() -> AsyncGenerator[SyncerForks]:
    """Start the process, and kill it with all its children at the end of the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.forked_syncers"),
        env=inherited(),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    forks = SyncerForks(process)
    # No task group: a fixture may be left in another task than it was entered in.
    listening = asyncio.create_task(forks.listen(), name="syncers")
    try:
        yield forks
    finally:
        process.kill()
        await process.wait()
        await end(listening)


class SyncerPool:
    """Syncers in a role of `forked_syncers`. Those that sleep or have ended are not `awake`."""

    def __init__(self, forks: SyncerForks, environment: Mapping[str, str], tables: Tables) -> None:
        self._forks = forks
        self._environment = environment
        self._tables = tables
        self.role = "plain"
        self.awake: list[int] = []
        self.asleep: list[int] = []

    async def start(self, *, number: int = 1) -> None:
        """Start syncers."""
        self.awake += await self._forks.fork(self.role, self._environment, number=number)

    async def settled(self) -> None:
        """Wait until those that are awake share all partitions."""

        async def all_shared() -> bool:
            owners = list((await self.owners()).values())
            fewest = PARTITIONS // len(self.awake)
            return all(owners.count(pid) >= fewest for pid in self.awake)

        await eventually(all_shared)

    def kill(self, pid: int) -> None:
        """End a syncer with SIGKILL."""
        self.awake.remove(pid)
        os.kill(pid, signal.SIGKILL)

    def end(self, pid: int) -> None:
        """Ask a syncer to end."""
        self.awake.remove(pid)
        os.kill(pid, signal.SIGTERM)

    def put_to_sleep(self, pid: int) -> None:
        """Stop a syncer until it is woken."""
        self.awake.remove(pid)
        self.asleep.append(pid)
        os.kill(pid, signal.SIGSTOP)

    def wake(self, pid: int) -> None:
        """Let a syncer go on."""
        self.asleep.remove(pid)
        self.awake.append(pid)
        os.kill(pid, signal.SIGCONT)

    async def owners(self) -> dict[int, int | None]:
        """Return by partition the process that owns it, None where it is no member any more."""
        rows = await self._tables.rows(_OWNERS)
        return {number: None if process is None else _pid(process) for number, process in rows}

    async def owning(self) -> list[int]:
        """Return those that are awake and own something."""
        owners = set((await self.owners()).values())
        return [pid for pid in self.awake if pid in owners]


def _pid(process: str) -> int:
    """Return the process number in a member's `process`."""
    return int(process.split("/")[2])


@asynccontextmanager
async def open_syncer_pool(
    forks: SyncerForks, postgres: PostgresSettings, streams: StreamsSettings
) -> AsyncGenerator[SyncerPool]:
    """Yield a pool without any syncer; all that were started are killed with the block."""
    async with open_redis(streams) as redis:
        layout = Layout(catalog.LEADS, 1, PARTITIONS)
        await Divisions(redis).publish(Division([layout], is_open=True))
    servers = {"SUPABASE_CONNECTION_STRING": postgres.dsn, "REDIS_URL": streams.url}
    try:
        yield SyncerPool(forks, IMPATIENT | servers, Tables(postgres.dsn))
    finally:
        await forks.end_all()
