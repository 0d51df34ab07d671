"""Summarizers on real servers, without a process of their own, and the rows of their requests."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import UUID

import orjson
import pytest
from redis.asyncio import Redis

from services.summarizer.providers import Provider
from shared.events.outcome import Outcome, OutcomeStatus
from shared.settings import StreamsSettings
from shared.storage.pool import Database
from tests.support.summaries import Summarizer, open_summarizer

OpenSummarizer = Callable[..., AbstractAsyncContextManager[Summarizer]]


@pytest.fixture
def summarizer_of(
    database: Database, redis: Redis, streams_settings: StreamsSettings
) -> OpenSummarizer:
    """Return a function that opens a summarizer around a provider."""

    def open_one(provider: Provider, **options: Any) -> AbstractAsyncContextManager[Summarizer]:
        return open_summarizer(database, redis, streams_settings, provider, **options)

    return open_one


async def rows(database: Database, lead_id: UUID) -> list[dict[str, Any]]:
    async with database.connection() as connection:
        found = await connection.fetch(
            "SELECT summary.*, event.outcome, event.detail AS event_detail FROM leads.summary"
            " JOIN leads.event USING (id) WHERE lead_id = $1 ORDER BY requested_at, id",
            lead_id,
        )
    return [dict(row) for row in found]


async def stored(database: Database, lead_id: UUID) -> dict[str, Any]:
    async with database.connection() as connection:
        row = await connection.fetchrow("SELECT * FROM leads.lead WHERE id = $1", lead_id)
    assert row is not None
    return dict(row)


async def change(database: Database, lead_id: UUID, city: str) -> None:
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE leads.lead SET city = $2, version = version + 1,"
            " summary_stale = summary IS NOT NULL WHERE id = $1",
            lead_id,
            city,
        )


def reason(outcome: Outcome) -> str:
    assert outcome.status is OutcomeStatus.FAILED
    return str(orjson.loads(outcome.body)["reason"])
