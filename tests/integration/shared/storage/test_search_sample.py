"""Searches with statistics at hand: the same leads as without, for less."""

import asyncpg
import orjson

from bench.system import INSERT
from shared.storage.lead_export import FilteredLeads, LeadFilters
from shared.storage.pool import Database

LEADS = 4_000
COUNT = "SELECT count(*) FROM leads.lead WHERE "
COST = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT FROM leads.lead WHERE "
NUMBERS = {
    "ada.2718@example.com": 1,
    "Lovelace 2718": 1,
    "2718 1": 0,
    # The number is there, and what stands beside it is not.
    "bob.2718@example.com": 0,
    "2718@example.org": 0,
    "2718 zuse": 0,
    # A wildcard of LIKE is a letter like any other.
    "ada%2718": 0,
    "ada_2718": 0,
    "271": 14,
    "lovelace": LEADS,
    "lovelace 2": 1_111,
}


async def test_searches_read_no_list_of_what_all_leads_have(
    database: Database, postgres_dsn: str
) -> None:
    await store_leads(postgres_dsn)
    leads = FilteredLeads(database)

    assert {words: await number(leads, words) for words in NUMBERS} == NUMBERS
    for words in ("ada.2718@example.com", "lovelace 2718", "bob.2718@example.com"):
        plan, of_all_trigrams = await plans(leads, words)
        assert "lead_search_trigrams" in plan
        assert blocks(plan) * 2 < blocks(of_all_trigrams), words


async def store_leads(dsn: str) -> None:
    """Store leads that differ by their numbers alone, and let PostgreSQL look at them."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.fetch(INSERT, 1, LEADS)
        await connection.execute("VACUUM (ANALYZE) leads.lead")
    finally:
        await connection.close()


async def number(leads: FilteredLeads, words: str) -> int:
    async with leads.filtering(LeadFilters(words=tuple(words.split()))) as found:
        return int(await found.connection.fetchval(COUNT + found.conditions, *found.parameters))


async def plans(leads: FilteredLeads, words: str) -> tuple[str, str]:
    """Return how words are searched, and how they would be without statistics."""
    async with leads.filtering(LeadFilters(words=tuple(words.split()))) as found:
        # So few leads are read faster without an index.
        await found.connection.execute("SET LOCAL enable_seqscan = off")
        plan = await found.connection.fetchval(COST + found.conditions, *found.parameters)
        whole = " AND ".join(f"search_text LIKE '%{word}%'" for word in words.split())
        return plan, await found.connection.fetchval(COST + whole)


def blocks(plan: str) -> int:
    """Return how many blocks a query has read."""
    root = orjson.loads(plan)[0]["Plan"]
    return int(root["Shared Hit Blocks"] + root["Shared Read Blocks"])
