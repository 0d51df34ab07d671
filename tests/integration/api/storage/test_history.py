"""How a lead's events and summaries are read: by an index, and as JSON that PostgreSQL makes."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from services.api.storage.history import LeadHistory
from shared.events.envelope import new_id
from shared.storage.pool import Database
from tests.support.lead_table import insert_lead

NOON = datetime(2026, 1, 1, 12, 0, 0, 125_000, tzinfo=UTC)

INSERT_EVENTS = """
    INSERT INTO leads.event (
        id, type, source, subject, dataschema, data, time, correlation_id, payload_hash, outcome
    )
    SELECT gen_random_uuid(), 'lead-created', 'api', $1, 'schema', '{"lead": {"city": "Zoë"}}',
        $2::timestamptz + (number % 4) * interval '1 minute', 'correlation', '', 'created'
    FROM generate_series(1, 10) AS number
"""
INSERT_SUMMARY = """
    INSERT INTO leads.summary (
        id, lead_id, state, lead_version, input_hash, prompt_version, provider, model,
        requested_at, deadline
    ) VALUES (gen_random_uuid(), $1, 'queued', 1, '\\xab', '1', 'tests', 'small', $2, $2)
"""
EVENTS = """
    EXPLAIN (VERBOSE) SELECT leads.event_json(event) FROM leads.event
    WHERE subject = 'lead' AND (time, id) < (now(), '00000000-0000-0000-0000-000000000001')
    ORDER BY time DESC, id DESC
"""
SUMMARIES = """
    EXPLAIN (VERBOSE) SELECT leads.summary_json(request) FROM leads.summary AS request
    WHERE lead_id = '00000000-0000-0000-0000-000000000001' ORDER BY requested_at DESC, id DESC
"""


async def test_pages_go_through_all_events_newest_first(database: Database) -> None:
    lead_id = new_id()
    async with database.connection() as connection:
        await connection.execute(INSERT_EVENTS, str(lead_id), NOON)
    history = LeadHistory(database)
    seen = await history.events(lead_id, limit=3)
    while page := await history.events(lead_id, limit=3, after=seen[-1].position):
        seen += page
    places = [(row.position.key, row.position.id) for row in seen]
    assert len(set(places)) == 10
    assert places == sorted(places, reverse=True)
    assert seen[-1].json == (
        b'{"id":"%b","type":"lead-created","source":"api","time":"2026-01-01T12:00:00.125Z",'
        b'"outcome":"created","correlationId":"correlation",'
        b'"data":{"lead": {"city": "Zo\xc3\xab"}}}' % str(seen[-1].position.id).encode()
    )


async def test_a_summary_shows_what_is_open_as_null(database: Database) -> None:
    lead_id = await insert_lead(database)
    async with database.connection() as connection:
        await connection.execute(INSERT_SUMMARY, lead_id, NOON)
    (row,) = await LeadHistory(database).summaries(lead_id, limit=9)
    document: dict[str, Any] = orjson.loads(row.json)
    assert document["inputHash"] == "ab"
    assert document["requestedAt"] == "2026-01-01T12:00:00.125Z"
    assert document["finishedAt"] is None
    assert row.position.key == NOON


@pytest.mark.parametrize(
    ("query", "index"), [(EVENTS, "event_history"), (SUMMARIES, "summary_lead")]
)
async def test_functions_are_inlined_and_an_index_is_used(
    query: str, index: str, database: Database
) -> None:
    async with database.transaction() as connection:
        for other in ("seqscan", "bitmapscan", "sort"):
            await connection.execute(f"SET LOCAL enable_{other} = off")
        plan = "\n".join(line[0] for line in await connection.fetch(query))
    assert f"using {index}" in plan
    assert "_json(" not in plan.replace("row_to_json(", "")
