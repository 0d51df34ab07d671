"""What a copy of the schema must agree with, and the erasures that it may not know of yet."""

import contextlib
from collections.abc import AsyncGenerator, Collection, Sequence
from datetime import timedelta
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict

from shared.storage.erasure import delete_leads, erase_records
from shared.storage.pool import Connection, Database

# A table of some hundred million rows.
READ_TIMEOUT = timedelta(hours=2)
# Leads erased in one transaction.
ERASED_AT_ONCE = 100

# One moment for the facts and the dump, which joins it; and the same text of a value everywhere.
_SNAPSHOT = """
    SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
    SET LOCAL idle_in_transaction_session_timeout = 0;
    SET LOCAL statement_timeout = 0;
    SET LOCAL timezone = 'UTC';
    SET LOCAL datestyle = 'ISO, MDY';
    SET LOCAL bytea_output = 'hex'
"""
_SERVER = """
    SELECT current_setting('server_version_num')::int / 10000 AS major,
           transaction_timestamp() AS at, pg_export_snapshot() AS snapshot,
           EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_trgm') AS has_trigrams
"""
_TABLES = """
    SELECT quote_ident(relname) AS name,
           string_agg(quote_ident(attname), ', ' ORDER BY attname COLLATE "C") AS columns
    FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
    WHERE relnamespace = to_regnamespace('leads') AND relkind = 'r'
      AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
    GROUP BY relname ORDER BY relname COLLATE "C"
"""
# The sum does not depend on the order, and half of MD5 is enough to tell tables apart.
_TABLE = """
    SELECT count(*) AS rows, coalesce(sum(
        ('x' || left(md5(ROW({columns})::text), 16))::bit(64)::bigint::numeric
    ), 0)::text AS hash FROM leads.{name}
"""
_MIGRATIONS = "SELECT migration_id FROM leads._yoyo_migration ORDER BY migration_id"
_POSITIONS = """
    SELECT stream, layout, number, position FROM leads.partition ORDER BY stream, layout, number
"""
_MAJOR = "SELECT current_setting('server_version_num')::int / 10000"
# What a start of the services makes by itself; all else is somebody's.
_MADE_AT_START = ("layout", "partition", "member")
_KEPT = """
    SELECT quote_ident(relname) AS name FROM pg_class
    WHERE relnamespace = 'leads'::regnamespace AND relkind = 'r'
      AND relname <> ALL($1::text[]) AND relname NOT LIKE '%yoyo%'
"""
_ERASED_IDS = "SELECT lead_id FROM leads.tombstone"
_ERASED = """
    SELECT lead_id, external_id_hash, email_key_hash, version, deleted_at
    FROM leads.tombstone WHERE lead_id = ANY($1::uuid[]) ORDER BY deleted_at, lead_id
"""
_BURY = """
    INSERT INTO leads.tombstone (lead_id, external_id_hash, email_key_hash, version, deleted_at)
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT (lead_id) DO NOTHING
"""
# The processes that shared the partitions then are gone.
_FORGET_MEMBERS = """
    WITH gone AS (DELETE FROM leads.member)
    UPDATE leads.partition SET owner = NULL WHERE owner IS NOT NULL
"""
_PRESENT = "SELECT id FROM leads.lead WHERE id = ANY($1::uuid[])"


class TableFacts(BaseModel):
    """A table's contents."""

    model_config = ConfigDict(frozen=True)

    rows: int
    hash: str


class Position(BaseModel):
    """Up to which entry a partition of a stream was applied."""

    model_config = ConfigDict(frozen=True)

    stream: str
    layout: int
    number: int
    position: str


class SchemaFacts(BaseModel):
    """The schema at one moment. `postgres` is the server's major version."""

    model_config = ConfigDict(frozen=True)

    postgres: int
    migrations: tuple[str, ...]
    tables: dict[str, TableFacts]
    positions: tuple[Position, ...]

    def rows(self, table: str) -> int:
        """Return how many rows a table has."""
        return self.tables[table].rows if table in self.tables else 0


class Erasure(BaseModel):
    """A lead that was deleted, as its tombstone says: hashes, and nothing of the person."""

    model_config = ConfigDict(frozen=True, ser_json_bytes="hex", val_json_bytes="hex")

    lead_id: UUID
    external_id_hash: bytes | None
    email_key_hash: bytes | None
    version: int
    deleted_at: AwareDatetime


class Snapshot(BaseModel):
    """A moment of the database that other sessions can join by its `id`.

    `has_trigrams` is whether the search stands on an extension, which is no part of the schema.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    at: AwareDatetime
    has_trigrams: bool
    facts: SchemaFacts


@contextlib.asynccontextmanager
async def open_snapshot(database: Database) -> AsyncGenerator[Snapshot]:
    """Hold one moment of the database for the length of the block, and tell what is in it.

    Nothing is locked, and whoever polls for changes does not wait for it.
    """
    async with database.transaction(setting=_SNAPSHOT) as connection:
        server = await connection.fetchrow(_SERVER)
        assert server is not None  # noqa: S101 (it has no WHERE)
        facts = await _facts(connection, major=server["major"])
        yield Snapshot(
            id=server["snapshot"],
            at=server["at"],
            has_trigrams=server["has_trigrams"],
            facts=facts,
        )


async def _facts(connection: Connection, *, major: int) -> SchemaFacts:
    tables: dict[str, TableFacts] = {}
    for table in await connection.fetch(_TABLES):
        # Names out of the server's own catalog, quoted by it.
        query = _TABLE.format(columns=table["columns"], name=table["name"])
        row = await connection.fetchrow(query, timeout=READ_TIMEOUT.total_seconds())
        tables[table["name"]] = TableFacts(**dict(row or {}))
    return SchemaFacts(
        postgres=major,
        migrations=tuple(row["migration_id"] for row in await connection.fetch(_MIGRATIONS)),
        tables=tables,
        positions=tuple(Position(**dict(row)) for row in await connection.fetch(_POSITIONS)),
    )


async def server_major(database: Database) -> int:
    """Return the server's major version."""
    async with database.connection() as connection:
        return int(await connection.fetchval(_MAJOR))


async def drop_empty_schema(database: Database) -> bool:
    """Make room for a restore; returns whether there is room: nobody's rows are dropped."""
    async with database.transaction() as connection:
        if not await connection.fetchval("SELECT to_regnamespace('leads') IS NOT NULL"):
            return True
        for table in await connection.fetch(_KEPT, list(_MADE_AT_START)):
            if await connection.fetchval(f"SELECT EXISTS (SELECT FROM leads.{table['name']})"):  # noqa: S608 (quoted)
                return False
        await connection.execute("DROP SCHEMA leads CASCADE")
    return True


async def new_erasures(database: Database, known: Collection[UUID]) -> list[Erasure]:
    """Return the leads that were deleted and are not known to be yet."""
    async with database.transaction() as connection:
        seconds = READ_TIMEOUT.total_seconds()
        found = await connection.fetch(_ERASED_IDS, timeout=seconds)
        missing = [row["lead_id"] for row in found if row["lead_id"] not in known]
        rows = await connection.fetch(_ERASED, missing, timeout=seconds)
    return [Erasure(**dict(row)) for row in rows]


async def repeat_erasures(database: Database, erasures: Sequence[Erasure]) -> int:
    """Erase leads again, and keep them from coming back; returns how many were there."""
    number = 0
    for start in range(0, len(erasures), ERASED_AT_ONCE):
        part = {one.lead_id: one for one in erasures[start : start + ERASED_AT_ONCE]}
        async with database.transaction() as connection:
            await connection.executemany(
                _BURY, [tuple(one.model_dump().values()) for one in part.values()]
            )
            present = [row["id"] for row in await connection.fetch(_PRESENT, list(part))]
            await delete_leads(connection, {one: part[one].deleted_at for one in present})
            await erase_records(connection, list(part))
        number += len(present)
    return number


async def forget_members(database: Database) -> None:
    """Let the partitions go at once to whichever syncers start now."""
    async with database.connection() as connection:
        await connection.execute(_FORGET_MEMBERS)
