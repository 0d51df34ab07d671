"""Replays of requests change nothing, and call no model unless they may."""

from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from shared.domain.summary import FailureReason
from shared.events.outcome import OutcomeStatus
from shared.storage.pool import Database
from shared.streams.codec import decode, entries_of
from tests.integration.summarizer.conftest import OpenSummarizer, reason, rows
from tests.support.summaries import Says, is_down, requested, stored_lead


async def test_replay_calls_no_model(database: Database, summarizer_of: OpenSummarizer) -> None:
    lead_id = await stored_lead(database)
    provider = Says()
    async with summarizer_of(provider) as summarizer:
        unknown = await summarizer.ask(requested(lead_id, replay_id="replay-1"))
        event = requested(lead_id)
        await summarizer.ask(event)
        known = await summarizer.ask(requested(lead_id, event_id=event.id, replay_id="replay-1"))
    assert reason(unknown) == "replayed"
    assert known.status is OutcomeStatus.SUMMARISED
    assert provider.calls == 1


@pytest.mark.parametrize("envelope", [{"replay_id": "replay-2", "with_model": True}, {}])
async def test_what_a_replay_ended_without_a_model_is_done_when_one_may_be_called(
    envelope: dict[str, Any], database: Database, redis: Redis, summarizer_of: OpenSummarizer
) -> None:
    lead_id = await stored_lead(database)
    event = requested(lead_id, requested_by="somebody")
    async with summarizer_of(provider := Says()) as summarizer:
        for _ in range(2):
            assert reason(await summarizer.ask(replace(event, replay_id="replay-1"))) == "replayed"
        done = await summarizer.ask(replace(event, **envelope))
        again = await summarizer.ask(replace(event, **envelope))
        cached = await summarizer.cache.get(lead_id)
    assert (done.status, done.repeated) == (OutcomeStatus.SUMMARISED, False)
    assert (again, again.repeated, provider.calls) == (done, True, 1)
    [row] = await rows(database, lead_id)
    assert (row["state"], row["outcome"]) == ("succeeded", "summarised")
    # Cache and readers have it, as any summary.
    assert cached is not None
    assert cached.json == done.body
    assert decode(entries_of(await redis.xrange("stream:changes"))[0].fields).subject == str(
        lead_id
    )


async def test_another_failure_is_one_for_good(
    database: Database, summarizer_of: OpenSummarizer
) -> None:
    event = requested(await stored_lead(database))
    async with summarizer_of(provider := Says(is_down())) as summarizer:
        failed = await summarizer.ask(event)
        replayed = await summarizer.ask(replace(event, replay_id="replay-1", with_model=True))
    assert reason(failed) == reason(replayed) == FailureReason.PROVIDER_UNAVAILABLE
    assert provider.calls == 1
