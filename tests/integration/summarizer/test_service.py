"""The summarizer as it runs: events in, replies and leads out."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncGenerator
from datetime import timedelta
from uuid import UUID

import orjson
import pytest
from pydantic import HttpUrl, SecretStr
from redis.asyncio import Redis

from devstack.standins import groq as standin
from devstack.standins.serving import running
from services.summarizer.providers.offline import OfflineProvider
from services.summarizer.settings import GroqSettings, SummarySettings
from shared.background import background
from shared.events.data import LeadChanged
from shared.events.envelope import Event, new_id
from shared.events.outcome import Outcome, OutcomeStatus
from shared.redis_connections import open_redis
from shared.settings import PostgresSettings, StreamsSettings
from shared.storage.lead_document import LeadRepository
from shared.storage.pool import Database
from shared.streams.publisher import add_events
from shared.streams.replies import Replies
from tests.support.eventually import eventually
from tests.support.forked_process import forked_python
from tests.support.summaries import Says, requested, stored_lead
from tests.support.summarizer import running_summarizer, summarizer_settings

BLOCK = timedelta(milliseconds=100)


@pytest.fixture
async def replies(streams_settings: StreamsSettings) -> AsyncGenerator[Replies]:
    async with open_redis(streams_settings, block=BLOCK) as reader:
        replies = Replies(reader, instance=f"tests-{new_id()}", block=BLOCK)
        async with background(replies.run(), name="replies"):
            yield replies


async def ask(redis: Redis, replies: Replies, lead_id: UUID) -> Outcome:
    event = requested(lead_id, reply_to=replies.address)
    with replies.expect(event.id) as future:
        await add_events(redis, [event])
        return await asyncio.wait_for(future, 10)


async def test_offline_summaries_by_default(
    database: Database,
    redis: Redis,
    replies: Replies,
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
) -> None:
    lead_id = await stored_lead(database)
    settings = summarizer_settings(postgres_settings, streams_settings)
    async with running_summarizer(settings):
        outcome = await ask(redis, replies, lead_id)
    lead = orjson.loads(outcome.body)
    assert lead["summary"].startswith("Ada Lovelace")
    async with database.connection() as connection:
        row = await connection.fetchrow("SELECT provider, model FROM leads.summary")
    assert row is not None
    assert tuple(row) == ("offline", OfflineProvider.model)


async def test_groq_summaries_through_the_real_library(
    database: Database,
    redis: Redis,
    replies: Replies,
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
) -> None:
    lead_id = await stored_lead(database)
    stand_in_settings = standin.GroqSettings()
    app = standin.create_app(stand_in_settings)
    async with running(app, stand_in_settings) as url:
        groq = GroqSettings(
            groq_api_key=SecretStr("gsk_tests"),
            groq_base_url=HttpUrl(str(url)),
            groq_requests_per_minute=100,
            groq_tokens_per_minute=100_000,
        )
        settings = summarizer_settings(postgres_settings, streams_settings, groq=groq)
        async with running_summarizer(settings):
            outcome = await ask(redis, replies, lead_id)
    assert outcome.status is OutcomeStatus.SUMMARISED, outcome.body
    assert "Ada Lovelace" in orjson.loads(outcome.body)["summary"]
    async with database.connection() as connection:
        row = await connection.fetchrow(
            "SELECT provider, model, tokens_in > 0, tokens_out > 0, attempts FROM leads.summary"
        )
    assert row is not None
    assert tuple(row) == ("groq", "openai/gpt-oss-20b", True, True, 1)


async def test_new_leads_are_summarised_when_that_is_wanted(
    database: Database,
    redis: Redis,
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
) -> None:
    leads = [await stored_lead(database) for _ in range(3)]
    events = [
        Event(
            source="tests",
            subject=str(lead_id),
            data=LeadChanged(lead_id=lead_id, lead_version=1, change=change),
        )
        for lead_id, change in zip(leads, ("created", "created", "updated"), strict=True)
    ]
    provider = Says()
    settings = summarizer_settings(
        postgres_settings, streams_settings, summary=SummarySettings(summary_new_leads=True)
    )
    async with running_summarizer(settings, provider=provider):
        await add_events(redis, [*events, *events])

        async def summarised() -> bool:
            async with database.connection() as connection:
                rows = await connection.fetch("SELECT id FROM leads.lead WHERE summary <> ''")
            return {row["id"] for row in rows} == set(leads[:2])

        await eventually(summarised)
    assert provider.calls == 2


def environment(postgres_dsn: str, redis_url: str) -> dict[str, str]:
    return {
        **os.environ,
        "ENV_FILE": "",
        "SUPABASE_CONNECTION_STRING": postgres_dsn,
        "REDIS_URL": redis_url,
        "STREAM_LEASE": "1",
        "STREAM_BLOCK": "0.2",
    }


@contextlib.asynccontextmanager
async def process(environment: dict[str, str]) -> AsyncGenerator[asyncio.subprocess.Process]:
    started = await asyncio.create_subprocess_exec(
        *(forked_python(), "-m", "services.summarizer"),
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


async def test_request_outlives_a_killed_process(
    database: Database, redis: Redis, postgres_dsn: str, redis_url: str
) -> None:
    lead_id = await stored_lead(database)
    stand_in_settings = standin.GroqSettings(faults=standin.GroqFaults(hang=True))
    app = standin.create_app(stand_in_settings)
    async with running(app, stand_in_settings) as url:
        groq = {"GROQ_API_KEY": "gsk_tests", "GROQ_BASE_URL": str(url)}
        offline = {"SUMMARY_PROVIDER": "offline"}
        async with process(environment(postgres_dsn, redis_url) | groq) as killed:
            event = requested(lead_id)
            await add_events(redis, [event])

            async def is_running() -> bool:
                async with database.connection() as connection:
                    return bool(
                        await connection.fetchval(
                            "SELECT true FROM leads.summary WHERE state = 'running'"
                        )
                    )

            await eventually(is_running)
            killed.kill()
        async with process(environment(postgres_dsn, redis_url) | offline) as other:

            async def is_summarised() -> bool:
                lead = await LeadRepository(database).get(lead_id)
                return lead is not None and b'"summary":"' in lead.json

            await eventually(is_summarised)
            other.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(other.wait(), 10) == 0
    async with database.connection() as connection:
        row = await connection.fetchrow("SELECT state, fence FROM leads.summary")
    assert row is not None
    assert tuple(row) == ("succeeded", 2)


async def test_wrong_settings_are_named(postgres_dsn: str, redis_url: str) -> None:
    wrong = environment(postgres_dsn, redis_url) | {"SUMMARY_PROVIDER": "groq", "GROQ_API_KEY": ""}
    started = await asyncio.create_subprocess_exec(
        *(forked_python(), "-m", "services.summarizer"), env=wrong, stderr=subprocess.PIPE
    )
    _, stderr = await asyncio.wait_for(started.communicate(), 20)
    assert started.returncode == 2
    assert b"GROQ_API_KEY" in stderr
