"""What kind of PostgreSQL the leads are in, and how far its schema is."""

from dataclasses import dataclass
from datetime import timedelta

from shared.events.envelope import now
from shared.storage.migrations.known import known_migrations
from shared.storage.pool import Database
from shared.storage.prepared_statements import is_direct

_SERVER = """
    SELECT current_setting('server_version') AS version, pg_is_in_recovery() AS standby,
           current_setting('synchronous_commit') AS synchronous_commit,
           current_setting('fsync') = 'on' AS fsync,
           current_setting('max_connections')::int AS max_connections,
           (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')
               AS connections,
           (SELECT count(*) FROM pg_stat_activity
            WHERE application_name = 'leads' AND query = '<insufficient privilege>') AS hidden
"""
_IS_MIGRATED = "SELECT to_regclass('leads._yoyo_migration') IS NOT NULL"
_APPLIED = "SELECT migration_id FROM leads._yoyo_migration"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresFacts:
    """What the server says of itself.

    `pooled` is whether a pooler stands in between. `hidden` are sessions of the system that this
    role may not look at. `ahead` is by how much the server's clock is ahead of this host's, and
    `uncertainty` half the time that asking took. `missing` are migrations this version has and the
    schema not, `unknown` those that a newer version has applied.
    """

    version: str
    pooled: bool
    standby: bool
    synchronous_commit: str
    fsync: bool
    connections: int
    max_connections: int
    hidden: int
    ahead: timedelta
    uncertainty: timedelta
    missing: tuple[str, ...]
    unknown: tuple[str, ...]


async def postgres_facts(database: Database) -> PostgresFacts:
    """Ask the server."""
    known = known_migrations()
    async with database.connection() as connection:
        pooled = not await is_direct(connection)
        asked = now()
        server_time = await connection.fetchval("SELECT clock_timestamp()")
        answered = now()
        server = await connection.fetchrow(_SERVER)
        applied: set[str] = set()
        if await connection.fetchval(_IS_MIGRATED):
            applied = {row["migration_id"] for row in await connection.fetch(_APPLIED)}
    return PostgresFacts(
        **dict(server or {}),
        pooled=pooled,
        ahead=server_time - (asked + (answered - asked) / 2),
        uncertainty=(answered - asked) / 2,
        missing=tuple(sorted(known - applied)),
        unknown=tuple(sorted(applied - known)),
    )
