"""Syncers that a test starts, stops, kills and puts to sleep, and what they own."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

from devstack.process import Process
from shared.events import catalog
from shared.events.partitions import Division, Layout
from shared.redis_connections import open_redis
from shared.settings import PostgresSettings, StreamsSettings
from shared.streams.ordering.layout import Divisions
from tests.faults.database import Tables
from tests.faults.system import inherited, say
from tests.support.eventually import eventually
from tests.support.forked_process import start_forked

# As many as the most syncers of a test.
PARTITIONS = 8
LEASE = timedelta(seconds=1)
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


class SyncerPool:
    """Syncers in a role of `forked_syncers`. Those that sleep or have ended are not `awake`."""

    def __init__(self, environment: Mapping[str, str], tables: Tables) -> None:
        self._environment = environment
        self._tables = tables
        self._processes: list[Process] = []
        self.role = "plain"
        self.awake: list[int] = []
        self.asleep: list[int] = []

    async def start(self, *, number: int = 1) -> None:
        """Start syncers."""
        for _ in range(number):
            process = await start_forked(
                "syncer",
                *("tests.faults.forked_syncers", self.role),
                environment=self._environment,
                on_line=lambda line: say("syncer", line),
            )
            self._processes.append(process)
            self.awake.append(process.pid)

    async def end_all(self) -> None:
        """Kill all that were started."""
        for process in self._processes:
            process.kill()
        await asyncio.gather(*(process.wait() for process in self._processes))

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
    postgres: PostgresSettings, streams: StreamsSettings
) -> AsyncGenerator[SyncerPool]:
    """Yield a pool without any syncer; all that were started are killed with the block."""
    async with open_redis(streams) as redis:
        layout = Layout(catalog.LEADS, 1, PARTITIONS)
        await Divisions(redis).publish(Division([layout], is_open=True))
    servers = {"SUPABASE_CONNECTION_STRING": postgres.dsn, "REDIS_URL": streams.url}
    pool = SyncerPool(inherited() | IMPATIENT | servers, Tables(postgres.dsn))
    try:
        yield pool
    finally:
        await pool.end_all()
