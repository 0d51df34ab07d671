"""A streaming replica of the tests' PostgreSQL, whose lag a test decides on."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
from yarl import URL

from devstack.process import Command, run_to_end
from devstack.servers.binaries import postgres_directory
from devstack.servers.postgres import CLUSTER, EmbeddedPostgres, prepare_home
from tests.support.eventually import eventually

COPY_DEADLINE = timedelta(seconds=60)

_COME = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"


class PostgresReplica(EmbeddedPostgres):
    """Follows another server, as `pg_basebackup` sets it up."""

    def __init__(self, directory: Path, primary: EmbeddedPostgres) -> None:
        super().__init__(directory, fsync=False)
        self._primary = primary

    async def _prepare(self) -> Command:
        home = prepare_home(self.directory, postgres_directory())
        self._password = URL(self._primary.dsn).password or ""
        if home.version is None:
            copy = Command(
                (
                    *(str(home.binaries / "pg_basebackup"), "--pgdata"),
                    str(home.new_directory(CLUSTER)),
                    *("--dbname", self._primary.dsn_of("postgres")),
                    *("--write-recovery-conf", "--checkpoint", "fast", "--no-sync"),
                ),
                directory=home.path,
                account=home.account,
            )
            await run_to_end("pg_basebackup", copy, deadline=COPY_DEADLINE)
        return self._server_command(home)

    async def catch_up(self) -> None:
        """Return when all is here that the primary has by now."""
        primary = self._primary.dsn_of("postgres")
        async with await psycopg.AsyncConnection.connect(primary) as connection:
            row = await (await connection.execute("SELECT pg_current_wal_lsn()::text")).fetchone()
        assert row is not None

        async def has_come() -> bool:
            async with await self._connect() as connection:
                come = await (await connection.execute(_COME, row)).fetchone()
            return come is not None and bool(come[0])

        await eventually(has_come)

    @asynccontextmanager
    async def standing_still(self) -> AsyncGenerator[None]:
        """Take over nothing for the length of the block, after all that there is by now."""
        await self.catch_up()
        async with await self._connect() as connection:
            await connection.execute("SELECT pg_wal_replay_pause()")
            state = "SELECT pg_get_wal_replay_pause_state() = 'paused'"

            async def is_paused() -> bool:
                row = await (await connection.execute(state)).fetchone()
                return row is not None and bool(row[0])

            await eventually(is_paused)
            try:
                yield
            finally:
                await connection.execute("SELECT pg_wal_replay_resume()")

    async def _connect(self) -> psycopg.AsyncConnection:
        return await psycopg.AsyncConnection.connect(self.dsn_of("postgres"), autocommit=True)
