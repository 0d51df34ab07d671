"""GET /leads/{id}/history and /summaries."""

from typing import Any
from uuid import UUID

import httpx
import pytest

from shared.events.envelope import new_id
from shared.storage.pool import Database
from tests.support.builders import lead_body
from tests.support.lead_table import insert_lead

_EVENT = """
    INSERT INTO leads.event (id, type, source, subject, dataschema, data, time, correlation_id,
                             payload_hash, outcome)
    VALUES ($1, 'lead-updated', 'api', $2, 'urn:leads:lead-updated:1', '{"changes": {}}',
            date_trunc('minute', now()), 'one', '', 'updated')
"""
_SUMMARY = """
    INSERT INTO leads.summary (id, lead_id, state, lead_version, input_hash, prompt_version,
                               provider, model, reason, requested_at, deadline, finished_at)
    VALUES ($1, $2, 'failed', 1, '\\x00', '1', 'tests', 'none', 'timeout', now(), now(), now())
"""


async def insert(database: Database, query: str, lead_id: UUID, *, number: int) -> list[str]:
    """Insert rows that belong to a lead; returns their ids, newest first."""
    ids = [new_id() for _ in range(number)]
    async with database.connection() as connection:
        for row_id in ids:
            subject = str(lead_id) if query is _EVENT else lead_id
            await connection.execute(query, row_id, subject)
    return [str(row_id) for row_id in reversed(ids)]


async def walk(api: httpx.AsyncClient, address: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    link: str | None = address
    while link is not None:
        response = await api.get(link)
        assert response.status_code == 200, response.text
        rows += response.json()
        link = response.links.get("next", {}).get("url")
    return rows


async def test_a_created_lead_has_its_creation_in_its_history(client: httpx.AsyncClient) -> None:
    created = await client.post("/leads", json=lead_body())
    lead = created.json()
    for key in (lead["id"], lead["externalId"]):
        response = await client.get(f"/leads/{key}/history")
        (event,) = response.json()
        assert (event["type"], event["outcome"], event["source"]) == (
            "lead-created",
            "created",
            "api",
        )
        assert event["correlationId"] == created.headers["X-Request-Id"]
        assert event["time"] <= lead["createdAt"]
        assert event["data"]["lead"]["email"] == lead["email"]


@pytest.mark.parametrize(("path", "query"), [("history", _EVENT), ("summaries", _SUMMARY)])
async def test_both_come_page_by_page_newest_first(
    path: str, query: str, database: Database, api: httpx.AsyncClient
) -> None:
    lead_id = await insert_lead(database)
    expected = await insert(database, query, lead_id, number=5)
    await insert(database, query, await insert_lead(database), number=1)
    rows = await walk(api, f"/leads/{lead_id}/{path}?limit=2")
    assert [row["id"] for row in rows] == expected


async def test_a_cursor_belongs_to_one_lead(database: Database, api: httpx.AsyncClient) -> None:
    lead_id, other_id = await insert_lead(database), await insert_lead(database)
    await insert(database, _EVENT, lead_id, number=2)
    first = await api.get(f"/leads/{lead_id}/history?limit=1")
    link = first.links["next"]["url"].replace(str(lead_id), str(other_id))
    refused = await api.get(link)
    assert (refused.status_code, list(refused.json()["errors"])) == (400, ["after"])


async def test_a_deleted_lead_has_a_history_and_no_summaries(
    database: Database, api: httpx.AsyncClient
) -> None:
    lead_id = new_id()
    expected = await insert(database, _EVENT, lead_id, number=1)
    assert [row["id"] for row in await walk(api, f"/leads/{lead_id}/history")] == expected
    assert (await api.get(f"/leads/{lead_id}/summaries")).status_code == 404


@pytest.mark.parametrize("path", ["history", "summaries"])
@pytest.mark.parametrize("key", ["7", "5f0c2b1e-5c1e-4f0a-8f6d-2f4f3b0f7a11", "%00"])
async def test_what_is_not_there_is_not_found(path: str, key: str, api: httpx.AsyncClient) -> None:
    response = await api.get(f"/leads/{key}/{path}")
    assert (response.status_code, response.json()["code"]) == (404, "lead-not-found")


@pytest.mark.parametrize("path", ["history", "summaries"])
async def test_a_lead_without_any_has_an_empty_list(
    path: str, database: Database, api: httpx.AsyncClient
) -> None:
    lead_id = await insert_lead(database)
    assert await walk(api, f"/leads/{lead_id}/{path}") == []
    refused = await api.get(f"/leads/{lead_id}/{path}?page=2")
    assert (refused.status_code, list(refused.json()["errors"])) == (400, ["page"])
