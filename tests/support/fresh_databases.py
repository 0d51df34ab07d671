"""A database for one test after another: to empty it takes a tenth of the time to create it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import LiteralString

import psycopg
from psycopg import sql

from devstack.servers.postgres import EmbeddedPostgres

TEMPLATE = "leads"
NAME = "test"
# With more than this left by deleted rows, a plan may differ from that of a new database.
MOST_BYTES = 1_000_000

_END_SESSIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
# All that a test may change besides rows changes one of these.
_SCHEMA = """
SELECT ARRAY(
    SELECT concat(count(*), ' ', max(xmin::text::bigint)) FROM pg_class UNION ALL
    SELECT concat(count(*), ' ', max(xmin::text::bigint)) FROM pg_attribute UNION ALL
    SELECT concat(count(*), ' ', max(xmin::text::bigint)) FROM pg_constraint UNION ALL
    SELECT concat(count(*), ' ', max(xmin::text::bigint)) FROM pg_proc UNION ALL
    SELECT concat(count(*), ' ', max(xmin::text::bigint)) FROM pg_trigger UNION ALL
    SELECT concat(count(*), ' ', max(xmin::text::bigint)) FROM pg_extension UNION ALL
    SELECT concat(count(*), ' ', max(xmin::text::bigint)) FROM pg_namespace UNION ALL
    SELECT concat(count(*), ' ', max(xmin::text::bigint)) FROM pg_db_role_setting
)
"""
_TABLES = """
SELECT relname, pg_relation_size(oid) FROM pg_class
WHERE relnamespace = 'leads'::regnamespace AND relkind IN ('r', 'p') AND relname NOT LIKE '%yoyo%'
"""
_RESTART_SEQUENCES = "SELECT setval(seqrelid::regclass, seqstart, false) FROM pg_sequence"


class FreshDatabases:
    """Lends a fresh, migrated database of a server, to one test at a time."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server
        self._schema: list[str] | None = None

    @asynccontextmanager
    async def fresh(self) -> AsyncGenerator[str]:
        """Yield its address."""
        dsn = self._server.dsn_of(NAME)
        if self._schema is None:
            await self._run("CREATE DATABASE {} TEMPLATE {}", NAME, TEMPLATE)
            async with await psycopg.AsyncConnection.connect(dsn) as connection:
                self._schema = await schema_of(connection)
        yield dsn
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            is_as_new = await emptied(connection) and await schema_of(connection) == self._schema
        if not is_as_new:
            await self._run("DROP DATABASE {} WITH (FORCE)", NAME)
            self._schema = None

    async def _run(self, statement: LiteralString, *names: str) -> None:
        async with await psycopg.AsyncConnection.connect(
            self._server.dsn_of("postgres"), autocommit=True
        ) as administration:
            identifiers = [sql.Identifier(name) for name in names]
            await administration.execute(sql.SQL(statement).format(*identifiers))


async def schema_of(connection: psycopg.AsyncConnection) -> list[str]:
    row = await (await connection.execute(_SCHEMA)).fetchone()
    assert row is not None
    schema: list[str] = row[0]
    return schema


async def emptied(connection: psycopg.AsyncConnection) -> bool:
    """Delete all rows; False when the tables have grown too large to be used again."""
    await connection.execute(_END_SESSIONS)
    tables = await (await connection.execute(_TABLES)).fetchall()
    if sum(size for _, size in tables) > MOST_BYTES:
        return False
    # Without foreign keys and triggers.
    await connection.execute("SET session_replication_role = replica")
    for name, _ in tables:
        await connection.execute(sql.SQL("DELETE FROM leads.{}").format(sql.Identifier(name)))
    await connection.execute(_RESTART_SEQUENCES)
    return True
