"""What an API process counts."""

from contextlib import ExitStack

import httpx

from tests.integration.api.conftest import create
from tests.support.builders import lead_body
from tests.support.metrics import grows


async def test_reads_and_writes_are_counted(client: httpx.AsyncClient) -> None:
    with ExitStack() as stack:
        for one in (
            grows("leads_published_total", by=2, type="lead-created", answer="answered"),
            grows("leads_cache_reads_total", by=1, result="hit"),
            grows("leads_refused_total", by=0, why="redis"),
        ):
            stack.enter_context(one)
        lead = await create(client)
        await create(client)
        await client.get(f"/leads/{lead['id']}")


async def test_writes_that_are_answered_202_are_counted(aloof_client: httpx.AsyncClient) -> None:
    with grows("leads_published_total", by=1, type="lead-created", answer="asked"):
        response = await aloof_client.post(
            "/leads", json=lead_body(), headers={"Prefer": "respond-async"}
        )
        assert response.status_code == 202
    with grows("leads_published_total", by=1, type="lead-created", answer="timeout"):
        response = await aloof_client.post("/leads", json=lead_body())
        assert response.status_code == 202
