"""A request for a summary: what it makes of a lead, and how it may fail."""

import asyncio
from datetime import timedelta
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from shared.domain.errors import PermanentError
from shared.domain.summary import FailureReason
from shared.events.envelope import new_id
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.pool import Database
from shared.streams.codec import decode, entries_of
from tests.integration.summarizer.conftest import OpenSummarizer, change, reason, rows, stored
from tests.support.summaries import (
    Says,
    Waits,
    answer,
    is_down,
    requested,
    stored_lead,
    stored_leads,
)


async def test_summary_reaches_lead_cache_and_readers(
    database: Database, redis: Redis, summarizer_of: OpenSummarizer
) -> None:
    lead_id = await stored_lead(database)
    async with summarizer_of(Says()) as summarizer:
        outcome = await summarizer.ask(requested(lead_id, requested_by="somebody"))
        cached = await summarizer.cache.get(lead_id)
    lead = orjson.loads(outcome.body)
    assert outcome.status is OutcomeStatus.SUMMARISED
    assert (lead["summary"], lead["nextAction"]) == ("Hello", "Say hello back")
    assert (lead["version"], lead["summaryStale"]) == (2, False)
    assert cached is not None
    assert cached.json == outcome.body
    [entry] = entries_of(await redis.xrange("stream:changes"))
    changed: Any = decode(entry.fields).data
    assert (changed.lead_id, changed.lead_version) == (lead_id, 2)
    [row] = await rows(database, lead_id)
    assert (row["state"], row["outcome"], row["provider"], row["model"]) == (
        "succeeded",
        "summarised",
        "tests",
        "says-hello",
    )
    assert (row["tokens_in"], row["tokens_out"], row["attempts"]) == (100, 20, 1)
    assert (row["requested_by"], row["lead_version"], row["reused"]) == ("somebody", 1, False)


async def test_model_sees_no_more_of_a_person_than_it_needs(
    database: Database, summarizer_of: OpenSummarizer
) -> None:
    lead_id = await stored_lead(
        database, email="canary@example.com", phone="555-CANARY", dob="1990-12-24"
    )
    provider = Says()
    async with summarizer_of(provider) as summarizer:
        await summarizer.ask(requested(lead_id))
    text = "".join(message.content for message in provider.prompts[0].messages)
    assert "Ada" in text
    assert not any(secret in text for secret in ("canary", "CANARY", "1990"))


async def test_unknown_lead_is_not_found(summarizer_of: OpenSummarizer) -> None:
    provider = Says()
    event = requested(new_id())
    async with summarizer_of(provider) as summarizer:
        first, again = await summarizer.ask(event), await summarizer.ask(event)
    assert first.status is again.status is OutcomeStatus.NOT_FOUND
    assert provider.calls == 0


async def test_unchanged_lead_is_answered_without_a_call(
    database: Database, summarizer_of: OpenSummarizer
) -> None:
    lead_id = await stored_lead(database)
    provider = Says()
    async with summarizer_of(provider) as summarizer:
        first = await summarizer.ask(requested(lead_id))
        second = await summarizer.ask(requested(lead_id))
    assert second == Outcome(OutcomeStatus.REUSED, first.body)
    assert provider.calls == 1
    assert [row["reused"] for row in await rows(database, lead_id)] == [False, True]


async def test_the_cached_lead_keeps_its_partition_key(
    database: Database, redis: Redis, summarizer_of: OpenSummarizer
) -> None:
    key, lead_id = new_id(), await stored_lead(database)
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE leads.lead SET partition_key = $2 WHERE id = $1", lead_id, key
        )
    event = requested(lead_id)
    async with summarizer_of(Says()) as summarizer:
        # Written, asked for again, and used again.
        for asked in (event, event, requested(lead_id)):
            await summarizer.ask(asked)
            cached = await summarizer.cache.get(lead_id)
            assert cached is not None
            assert cached.moved_key == str(key)
            await redis.delete(*await redis.keys("leads:cache:*"))


async def test_changed_lead_is_summarised_anew_and_back_again_without_a_call(
    database: Database, summarizer_of: OpenSummarizer
) -> None:
    lead_id = await stored_lead(database, city="London")
    provider = Says(answer("of London"), answer("of Paris"))
    async with summarizer_of(provider) as summarizer:
        await summarizer.ask(requested(lead_id))
        await change(database, lead_id, "Paris")
        await summarizer.ask(requested(lead_id))
        assert (await stored(database, lead_id))["summary"] == "of Paris"
        await change(database, lead_id, "London")
        outcome = await summarizer.ask(requested(lead_id))
    lead = await stored(database, lead_id)
    assert provider.calls == 2
    assert (lead["summary"], lead["summary_stale"]) == ("of London", False)
    assert orjson.loads(outcome.body)["summary"] == "of London"


async def test_regenerate_calls_again(database: Database, summarizer_of: OpenSummarizer) -> None:
    lead_id = await stored_lead(database)
    provider = Says(answer("old"), answer("new"))
    async with summarizer_of(provider) as summarizer:
        await summarizer.ask(requested(lead_id))
        outcome = await summarizer.ask(requested(lead_id, regenerate=True))
    assert provider.calls == 2
    assert orjson.loads(outcome.body)["summary"] == "new"


async def test_failed_regeneration_keeps_the_old_summary(
    database: Database, summarizer_of: OpenSummarizer
) -> None:
    lead_id = await stored_lead(database)
    async with summarizer_of(Says(answer("old"), is_down())) as summarizer:
        await summarizer.ask(requested(lead_id))
        outcome = await summarizer.ask(requested(lead_id, regenerate=True))
    assert reason(outcome) == "provider-unavailable"
    assert (await stored(database, lead_id))["summary"] == "old"
    failed = (await rows(database, lead_id))[1]
    assert (failed["state"], failed["reason"], failed["outcome"]) == (
        "failed",
        "provider-unavailable",
        "failed",
    )


async def test_request_that_takes_too_long_fails_by_its_deadline(
    database: Database, summarizer_of: OpenSummarizer
) -> None:
    lead_id = await stored_lead(database)
    async with summarizer_of(Waits(), time_limit=timedelta(milliseconds=100)) as summarizer:
        assert reason(await summarizer.ask(requested(lead_id))) == "timeout"


async def test_quota_counts_calls_and_nothing_else(
    database: Database, summarizer_of: OpenSummarizer
) -> None:
    leads = await stored_leads(database, 3)
    async with summarizer_of(Says(), quota=2) as summarizer:

        async def ask(number: int, **changes: Any) -> Outcome:
            return await summarizer.ask(
                requested(leads[number], requested_by="somebody", **changes)
            )

        event = requested(leads[0], requested_by="somebody")
        for _ in range(3):
            assert (await summarizer.ask(event)).status is OutcomeStatus.SUMMARISED
        assert (await ask(0)).status is OutcomeStatus.REUSED  # reused
        assert (await ask(1)).status is OutcomeStatus.SUMMARISED
        refused = await ask(2)
        assert reason(refused) == FailureReason.QUOTA
        assert orjson.loads(refused.body)["retryAfter"] > 0
        assert reason(await ask(1, regenerate=True)) == FailureReason.QUOTA
        assert (await ask(1)).status is OutcomeStatus.REUSED  # still reused
        other = await summarizer.ask(requested(leads[2], requested_by="somebody else"))
        assert other.status is OutcomeStatus.SUMMARISED


@pytest.mark.parametrize("text", ["nul\x00", "\x00"])
async def test_text_that_cannot_be_stored_is_refused_alone(
    database: Database, summarizer_of: OpenSummarizer, text: str
) -> None:
    lead_id = await stored_lead(database)
    async with summarizer_of(Says()) as summarizer:
        with pytest.raises(PermanentError):
            await summarizer.ask(requested(lead_id, requested_by=text))
        assert (await summarizer.ask(requested(lead_id))).status is OutcomeStatus.SUMMARISED


async def test_two_hundred_leads_at_once(database: Database, summarizer_of: OpenSummarizer) -> None:
    leads = await stored_leads(database, 50)
    provider = Says(delay=timedelta(milliseconds=20))
    events = [requested(lead_id) for lead_id in leads * 4]
    async with summarizer_of(provider) as summarizer, summarizer_of(provider) as other:
        outcomes = await asyncio.gather(
            *((summarizer, other)[number % 2].ask(event) for number, event in enumerate(events))
        )
    assert provider.calls == 50
    assert {outcome.status for outcome in outcomes} <= {
        OutcomeStatus.SUMMARISED,
        OutcomeStatus.JOINED,
    }
    async with database.connection() as connection:
        assert (
            await connection.fetchval(
                "SELECT count(*) FROM leads.summary WHERE state = 'succeeded'"
            )
            == 200
        )
