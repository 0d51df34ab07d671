"""How far readers that poll may see, so that nothing new comes to stand behind what they saw."""

from datetime import datetime

from shared.storage.pool import Database

# A transaction stamps leads (`leads.stamp`) once it has an id, and with no time before its own
# beginning. So what has a stamp below the oldest of those under way is there, or never will be.
_SETTLED_BEFORE = """
    SELECT date_trunc('milliseconds', least(min(xact_start), now())) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_xid IS NOT NULL
"""


async def settled_before(database: Database) -> datetime:
    """Return a time before which leads get no stamp any more, in whole milliseconds.

    It holds for what is read afterwards, by another statement. Transactions of another role are
    seen only by members of that role, and of `pg_read_all_stats`.
    """
    async with database.connection() as connection:
        moment: datetime = await connection.fetchval(_SETTLED_BEFORE)
    return moment
