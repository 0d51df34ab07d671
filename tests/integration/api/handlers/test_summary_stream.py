"""POST /leads/{id}/summary as an event stream."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from datetime import timedelta
from uuid import UUID, uuid4

import httpx
import pytest

from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.pool import Database
from tests.support.api import OpenApi
from tests.support.event_streams import Message, messages
from tests.support.lead_table import insert_lead
from tests.support.responder import Responder

PATIENCE = 10
EVENTS = {"Accept": "text/event-stream"}
_BEGIN = """
    INSERT INTO leads.summary (id, lead_id, state, lead_version, input_hash, prompt_version,
                               provider, model, requested_at, deadline)
    VALUES ($1, $2, 'running', 1, '\\x00', '1', 'tests', 'none', now(), now())
"""


@contextlib.asynccontextmanager
async def asking(api: httpx.AsyncClient, lead_id: UUID) -> AsyncGenerator[AsyncGenerator[Message]]:
    async with (
        asyncio.timeout(PATIENCE),
        api.stream("POST", f"/leads/{lead_id}/summary", headers=EVENTS) as response,
        contextlib.aclosing(messages(response)) as events,
    ):
        yield events


async def test_each_step_is_an_event_and_the_lead_is_the_last(
    database: Database, api: httpx.AsyncClient, summarizer: Responder
) -> None:
    lead_id = await insert_lead(database)
    async with asking(api, lead_id) as events:
        queued = await anext(events)
        async with database.connection() as connection:
            await connection.execute(_BEGIN, UUID(queued.data["id"]), lead_id)
        running = await anext(events)
        assert (queued.event, running.event) == ("queued", "running")
        assert running.data == queued.data
        summarizer.outcome = Outcome(OutcomeStatus.SUMMARISED, b'{"version": 2}')
        await summarizer.answer(summarizer.events[0])
        assert await anext(events) == Message("summarised", {"version": 2})
        assert await anext(events, None) is None


async def test_a_failure_is_sent_as_the_problem(
    database: Database, api: httpx.AsyncClient, summarizer: Responder
) -> None:
    summarizer.outcome = Outcome(
        OutcomeStatus.FAILED, b'{"reason": "invalid-output", "detail": "Too long"}'
    )
    async with asking(api, await insert_lead(database)) as events:
        *_, failed = [event async for event in events]
    assert failed.event == "failed"
    assert (failed.data["code"], failed.data["status"]) == ("invalid-model-output", 502)


async def test_what_takes_longer_is_accepted(database: Database, open_api: OpenApi) -> None:
    lead_id = await insert_lead(database)
    async with (
        open_api(summary_timeout=timedelta(seconds=0.3)) as api,
        asking(api, lead_id) as events,
    ):
        queued, accepted = [event async for event in events]
        assert (accepted.event, accepted.data["status"]) == ("accepted", "pending")
        assert accepted.data["id"] == queued.data["id"]
        operation = await api.get(f"/operations/{queued.data['id']}")
        assert operation.json()["status"] == "pending"


async def test_an_unknown_lead_is_not_found(api: httpx.AsyncClient) -> None:
    response = await api.post(f"/leads/{uuid4()}/summary", headers=EVENTS)
    assert (response.status_code, response.json()["code"]) == (404, "lead-not-found")


@pytest.mark.parametrize(
    "accept", ["*/*", "application/json", "text/*", "text/event-stream, application/json"]
)
async def test_without_a_wish_for_a_stream_the_answer_is_json(
    accept: str, database: Database, api: httpx.AsyncClient, summarizer: Responder
) -> None:
    summarizer.outcome = Outcome(
        OutcomeStatus.FAILED, b'{"reason": "invalid-output", "detail": "Too long"}'
    )
    response = await api.post(
        f"/leads/{await insert_lead(database)}/summary", headers={"Accept": accept}
    )
    assert response.headers["Content-Type"] == "application/problem+json"
