"""The SQL functions that select rows: PostgreSQL puts their bodies in place of the calls."""

import pytest

from shared.storage.pool import Database

CALLS = (
    "leads.archived_events(NULL, ARRAY['1'], NULL, now(), NULL, NULL)",
    "leads.selected_dead_letters(NULL, 'crash', NULL, NULL, NULL)",
    "leads.leads_without_summary(now())",
)


@pytest.mark.parametrize("call", CALLS)
async def test_calls_are_inlined(database: Database, call: str) -> None:
    query = f"EXPLAIN (VERBOSE) SELECT * FROM {call}"  # noqa: S608 (constants)
    async with database.connection() as connection:
        plan = "\n".join(row[0] for row in await connection.fetch(query))
    assert "Function Scan" not in plan
    assert call.partition("(")[0] not in plan


async def test_a_selection_uses_the_indexes_of_its_table(database: Database) -> None:
    query = "SELECT id FROM leads.archived_events(NULL, ARRAY['1'], NULL, NULL, NULL, NULL)"
    async with database.transaction() as connection:
        await connection.execute("SET LOCAL enable_seqscan = off")
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {query}"))
    assert "event_history" in plan
