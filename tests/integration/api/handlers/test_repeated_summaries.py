"""Summaries that are asked for again, since the process that was asked first has died."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from uuid import UUID

import httpx
import pytest

from services.api.settings import ApiSettings
from shared.settings import PostgresSettings, StreamsSettings
from shared.storage.pool import Database
from tests.support.api_process import running_process
from tests.support.auth_server import AuthServer
from tests.support.eventually import eventually
from tests.support.summaries import Waits, stored_lead
from tests.support.summarizer import running_summarizer, summarizer_settings

WHOLE = timedelta(seconds=60)


@pytest.fixture
async def model(
    postgres_settings: PostgresSettings, streams_settings: StreamsSettings
) -> AsyncGenerator[Waits]:
    """Yield the model of a running summarizer."""
    provider = Waits()
    settings = summarizer_settings(postgres_settings, streams_settings)
    async with running_summarizer(settings, provider=provider):
        yield provider


@asynccontextmanager
async def asking(
    url: str, auth: AuthServer, lead_id: UUID, *keys: str
) -> AsyncGenerator[list["asyncio.Task[httpx.Response]"]]:
    """Ask for a summary under each key, one after the other."""
    headers = {"Authorization": f"Bearer {auth.token()}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
        path = f"/leads/{lead_id}/summary"
        yield [
            asyncio.create_task(client.post(path, headers={"Idempotency-Key": key}), name=key)
            for key in keys
        ]


async def test_the_answer_goes_where_the_request_was_repeated(
    api_settings: ApiSettings, auth: AuthServer, database: Database, model: Waits
) -> None:
    lead_id = await stored_lead(database)
    states = {"running": 1, "queued": 2}  # one is written, and the others wait for it
    async with AsyncExitStack() as stack, asyncio.timeout(WHOLE.total_seconds()):
        enter = stack.enter_async_context
        first = await enter(running_process(api_settings, SUMMARY_TIMEOUT="20"))
        lost = await enter(asking(first.url, auth, lead_id, "one", "two", "three"))
        await eventually(lambda: _are(database, states))
        first.process.kill()
        ends = await asyncio.gather(*lost, return_exceptions=True)
        assert all(isinstance(end, httpx.TransportError) for end in ends)

        second = await enter(running_process(api_settings, SUMMARY_TIMEOUT="20"))
        repeated = await enter(asking(second.url, auth, lead_id, "one", "two", "three"))
        await eventually(lambda: _are_heard(database, 2))
        model.go.set()
        answers = await asyncio.gather(*repeated)
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert {answer.json()["summary"] for answer in answers} == {"Hello"}
    assert model.calls == 1


async def _are(database: Database, states: dict[str, int]) -> bool:
    async with database.connection() as connection:
        found = await connection.fetch("SELECT state, count(*) FROM leads.summary GROUP BY state")
    return {row["state"]: row["count"] for row in found} == states


async def _are_heard(database: Database, addresses: int) -> bool:
    """Whether the waiting requests are to be answered somewhere else than the running one."""
    async with database.connection() as connection:
        moved = await connection.fetchval(
            """
            SELECT count(*) FROM leads.summary JOIN leads.summary AS leader
                ON leader.id = summary.joined_id AND leader.reply_to <> summary.reply_to
            """
        )
    return bool(moved == addresses)
