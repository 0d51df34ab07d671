"""Below the bound for readers that poll no lead gets a stamp any more."""

import asyncio
from datetime import datetime, timedelta

from services.api.storage.settled import settled_before
from shared.storage.pool import Connection, Database

A_LITTLE = timedelta(milliseconds=5)


async def stamp(connection: Connection) -> datetime:
    value: datetime = await connection.fetchval("SELECT leads.stamp()")
    return value


async def test_what_is_committed_is_below_it(database: Database) -> None:
    async with database.transaction() as connection:
        stamped = await stamp(connection)
    await asyncio.sleep(A_LITTLE.total_seconds())
    settled = await settled_before(database)
    assert settled > stamped
    assert settled.microsecond % 1000 == stamped.microsecond % 1000 == 0


async def test_it_stops_where_the_oldest_transaction_began(database: Database) -> None:
    async with database.transaction() as old:
        began = await old.fetchval("SELECT date_trunc('milliseconds', now())")
        await asyncio.sleep(A_LITTLE.total_seconds())
        async with database.transaction() as young:
            await stamp(young)
            await stamp(old)
            assert await settled_before(database) == began
        assert await settled_before(database) == began
    assert await settled_before(database) > began


async def test_a_transaction_is_seen_before_it_has_a_stamp(database: Database) -> None:
    """Else its stamp could be below what a reader, a moment later, takes for settled."""
    async with database.transaction() as connection:
        await asyncio.sleep(A_LITTLE.total_seconds())
        before = await settled_before(database)
        stamped = await stamp(connection)
        assert before <= stamped
        await asyncio.sleep(A_LITTLE.total_seconds())
        assert await settled_before(database) <= stamped


async def test_who_only_reads_holds_nobody_up(database: Database) -> None:
    async with database.transaction() as connection:
        began = await connection.fetchval("SELECT now() FROM (SELECT count(*) FROM leads.lead)")
        await asyncio.sleep(A_LITTLE.total_seconds())
        assert await settled_before(database) > began
