"""A database for one test after another: to empty it takes a tenth of the time to create it.

One session does that for all tests: a new one would first read the catalog, which takes longer.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from devstack.servers.postgres import EmbeddedPostgres

TEMPLATE = "leads"
NAME = "test"
# With more than this left by deleted rows, a plan may differ from that of a new database.
MOST_BYTES = 1_000_000
WAIT = timedelta(milliseconds=2)
MOST_WAITS = 1_000

_OTHERS = """
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
_END_SESSIONS: LiteralString = f"SELECT pg_terminate_backend(pid) {_OTHERS}"
_SESSIONS: LiteralString = f"SELECT {_OTHERS}"
_NEXT_TRANSACTION = "SELECT pg_current_xact_id()::xid::text"
# All that a test may change besides rows changes one of these: how many there are, or how many are
# younger than the database. Ages are compared, as transaction ids cannot be.
_CATALOG = (
    "pg_class",
    "pg_attribute",
    "pg_constraint",
    "pg_proc",
    "pg_trigger",
    "pg_extension",
    "pg_namespace",
    "pg_db_role_setting",
)
_COUNT = "SELECT count(*), count(*) FILTER (WHERE age(xmin) < age({}::xid)) FROM {}"
_TABLES = """
SELECT relname, pg_relation_size(oid) FROM pg_class
WHERE relnamespace = 'leads'::regnamespace AND relkind IN ('r', 'p') AND relname NOT LIKE '%yoyo%'
"""
# Without foreign keys and triggers.
_DELETE_FREELY = "SET session_replication_role = replica"
_RESTART_SEQUENCES = "SELECT setval(seqrelid::regclass, seqstart, false) FROM pg_sequence"

Schema = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Kept:
    """The database as it was made, and a session that empties it."""

    session: psycopg.AsyncConnection
    catalog: sql.Composed
    schema: Schema

    async def empty(self) -> bool:
        """Delete all rows; False when the database cannot be used again."""
        await self._end_sessions()
        if await rows(self.session, self.catalog) != self.schema:
            return False
        tables = await rows(self.session, _TABLES)
        if sum(size for _, size in tables) > MOST_BYTES:
            return False
        deletes = [
            sql.SQL("DELETE FROM leads.{}").format(sql.Identifier(name))
            for name, size in tables
            if size
        ]
        await self.session.execute(sql.SQL("; ").join([*deletes, sql.SQL(_RESTART_SEQUENCES)]))
        return True

    async def _end_sessions(self) -> None:
        """End all others, and wait until they are gone: a pooler would lend them once more."""
        going = await rows(self.session, _END_SESSIONS)
        for _ in range(MOST_WAITS):
            if not going:
                return
            await asyncio.sleep(WAIT.total_seconds())
            going = await rows(self.session, _SESSIONS)


class FreshDatabases:
    """Lends a fresh, migrated database of a server, to one test at a time."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server
        self._kept: Kept | None = None

    @asynccontextmanager
    async def fresh(self) -> AsyncGenerator[str]:
        """Yield its address."""
        if self._kept is None:
            await self._run("CREATE DATABASE {} TEMPLATE {}", NAME, TEMPLATE)
            self._kept = await self._opened()
        yield self._server.dsn_of(NAME)
        if not await is_emptied(self._kept):
            await self.close()
            await self._run("DROP DATABASE {} WITH (FORCE)", NAME)

    async def close(self) -> None:
        """End the session in the database."""
        if self._kept is not None:
            await self._kept.session.close()
            self._kept = None

    async def _opened(self) -> Kept:
        # Several statements at a time cannot be prepared.
        session = await psycopg.AsyncConnection.connect(
            self._server.dsn_of(NAME), autocommit=True, prepare_threshold=None
        )
        await session.execute(_DELETE_FREELY)
        [[made]] = await rows(session, _NEXT_TRANSACTION)
        counts = [
            sql.SQL(_COUNT).format(sql.Literal(made), sql.Identifier(name)) for name in _CATALOG
        ]
        catalog = sql.SQL(" UNION ALL ").join(counts)
        return Kept(session, catalog, await rows(session, catalog))

    async def _run(self, statement: LiteralString, *names: str) -> None:
        async with await psycopg.AsyncConnection.connect(
            self._server.dsn_of("postgres"), autocommit=True
        ) as administration:
            identifiers = [sql.Identifier(name) for name in names]
            await administration.execute(sql.SQL(statement).format(*identifiers))


async def is_emptied(kept: Kept) -> bool:
    """Whether the database is as new again; not where a test has ended our session."""
    try:
        return await kept.empty()
    except psycopg.OperationalError:
        return False


async def rows(
    session: psycopg.AsyncConnection, query: LiteralString | sql.Composed
) -> list[tuple[Any, ...]]:
    return await (await session.execute(query)).fetchall()
