"""The SQL functions on leads: PostgreSQL puts their bodies in place of the calls."""

import orjson
import pytest

from shared.events.lead_fields import DOCUMENT_NAMES
from shared.storage.pool import Database

CALLS = (
    "leads.lead_json(lead)",
    "leads.summary_input(lead, true)",
    "leads.summary_input_hash('salt', leads.summary_input(lead, false))",
    "leads.iso_time(lead.updated_at)",
    "leads.email_key_hash(lead.email_key)",
    "leads.external_id_hash(lead.external_id)",
)


@pytest.mark.parametrize("call", CALLS)
async def test_calls_are_inlined(database: Database, call: str) -> None:
    name = call.partition("(")[0]
    async with database.connection() as connection:
        rows = await connection.fetch(f"EXPLAIN (VERBOSE) SELECT {call} FROM leads.lead")  # noqa: S608
    plan = "\n".join(row[0] for row in rows)
    assert f"{name}(" not in plan


async def test_the_json_of_a_lead_has_the_names_that_are_listed(database: Database) -> None:
    async with database.connection() as connection:
        document = await connection.fetchval("SELECT leads.lead_json(NULL)")
    assert set(orjson.loads(document)) == set(DOCUMENT_NAMES)
