"""The command line as a process of its own, on real servers, with a syncer in this process."""

import contextlib
import itertools
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from shared.events.envelope import Event
from shared.settings import CacheSettings, PostgresSettings, StreamsSettings
from shared.storage.inbox import EventStore
from shared.storage.pool import Database
from shared.streams.publisher import add_events
from tests.support.builders import lead_created
from tests.support.eventually import eventually
from tests.support.forked_commands import ForkedCommand, start_command
from tests.support.syncer import running_syncer

Table = list[tuple[object, ...]]
StartSyncer = Callable[[], contextlib.AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        assert self.code in {0, 1, 130}, self.stderr
        return orjson.loads(self.stdout)


class Ops:
    """Starts commands with the test's servers in their environment."""

    def __init__(self, environment: dict[str, str], scratch: Path) -> None:
        self.environment = environment
        self._scratch = scratch
        self._numbers = itertools.count(1)

    async def __call__(self, *arguments: str, stdin: bytes = b"") -> Ended:
        return Ended(*await (await self.start(*arguments, stdin=stdin)).end())

    async def start(self, *arguments: str, stdin: bytes = b"") -> ForkedCommand:
        scratch = self._scratch / f"command-{next(self._numbers)}"
        scratch.mkdir()
        return await start_command(
            arguments, environment=self.environment, stdin=stdin, scratch=scratch
        )

    async def interrupt(self, command: ForkedCommand) -> Ended:
        command.send_signal(signal.SIGINT)
        return Ended(*await command.end())


@pytest.fixture
def ops(postgres_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Ops:
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "USER"}}
    return Ops(
        kept
        | {
            "SUPABASE_CONNECTION_STRING": postgres_dsn,
            "REDIS_URL": redis_url,
            "ENV_FILE": "",
        },
        tmp_path_factory.mktemp("commands"),
    )


@pytest.fixture
def syncer(
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
    cache_settings: CacheSettings,
) -> StartSyncer:
    return lambda: running_syncer(postgres_settings, streams_settings, cache_settings)


Apply = Callable[[int], Awaitable[Sequence[Event]]]


@pytest.fixture
def create(redis: Redis, database: Database) -> Apply:
    """Return what publishes so many leads and waits until a running syncer has applied them."""
    store = EventStore(database)

    async def apply(number: int) -> Sequence[Event]:
        events = [lead_created() for _ in range(number)]
        await add_events(redis, events)

        async def all_applied() -> bool:
            return len(await store.ends([event.id for event in events])) == number

        await eventually(all_applied)
        return events

    return apply


@pytest.fixture
async def leads(database: Database) -> Callable[[], Awaitable[Table]]:
    """Return what reads the whole table of leads, in every column."""

    async def read() -> Table:
        return await rows(database, "SELECT * FROM leads.lead ORDER BY id")

    return read


async def rows(database: Database, query: str) -> Table:
    async with database.connection() as connection:
        return [tuple(row) for row in await connection.fetch(query)]


async def delete_leads(database: Database, ids: Sequence[str]) -> None:
    """Delete rows without an event."""
    async with database.connection() as connection:
        await connection.execute(
            "DELETE FROM leads.lead WHERE id::text = ANY($1::text[])", list(ids)
        )
