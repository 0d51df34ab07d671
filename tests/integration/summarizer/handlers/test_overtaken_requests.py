"""What happens while the model works: workers die, leads change, and late results are refused."""

import asyncio

import orjson
from redis.asyncio import Redis

from shared.events.outcome import OutcomeStatus
from shared.storage.pool import Database
from shared.streams.codec import entries_of
from tests.integration.summarizer.conftest import OpenSummarizer, change, rows, stored
from tests.support.summaries import Says, Waits, answer, requested, stored_lead


async def test_work_of_a_dead_worker_is_taken_over_and_its_late_result_refused(
    database: Database, redis: Redis, summarizer_of: OpenSummarizer
) -> None:
    lead_id = await stored_lead(database)
    event, follower = requested(lead_id), requested(lead_id, reply_to="reply:follower")
    slow = Waits(answer("from the dead"))
    async with summarizer_of(slow) as dead, summarizer_of(Says(answer("from the living"))) as alive:
        stuck = asyncio.create_task(dead.ask(event))
        await slow.asked.wait()
        assert not (await alive.ask(follower)).answered
        taken_over = await alive.ask(event)
        slow.go.set()
        late = await stuck
    assert orjson.loads(taken_over.body)["summary"] == "from the living"
    assert late == taken_over
    lead = await stored(database, lead_id)
    assert (lead["summary"], lead["version"]) == ("from the living", 2)
    [first, second] = await rows(database, lead_id)
    assert first["fence"] == 2
    assert (first["state"], second["state"]) == ("succeeded", "succeeded")
    [entry, *_] = entries_of(await redis.xrange("reply:follower"))
    assert orjson.loads(entry.fields[b"body"])["summary"] == "from the living"


async def test_late_result_of_an_overtaken_worker_that_is_not_done_yet_is_left_unanswered(
    database: Database, summarizer_of: OpenSummarizer
) -> None:
    lead_id = await stored_lead(database)
    event = requested(lead_id)
    first, second = Waits(answer("first")), Waits(answer("second"))
    async with summarizer_of(first) as one, summarizer_of(second) as other:
        overtaken = asyncio.create_task(one.ask(event))
        await first.asked.wait()
        owner = asyncio.create_task(other.ask(event))
        await second.asked.wait()
        first.go.set()
        assert not (await overtaken).answered
        second.go.set()
        assert orjson.loads((await owner).body)["summary"] == "second"


async def test_worker_that_died_before_answering_has_it_answered_by_the_next(
    database: Database, redis: Redis, summarizer_of: OpenSummarizer
) -> None:
    lead_id = await stored_lead(database)
    event, follower = requested(lead_id), requested(lead_id, reply_to="reply:follower")
    provider = Waits()
    async with summarizer_of(provider) as summarizer:
        leader = asyncio.create_task(summarizer.ask(event))
        await provider.asked.wait()
        await summarizer.ask(follower)
        provider.go.set()
        await leader
        await redis.flushall()
        again = await summarizer.ask(event)
        cached = await summarizer.cache.get(lead_id)
    assert cached is not None
    assert cached.json == again.body
    assert len(entries_of(await redis.xrange("reply:follower"))) == 1
    assert provider.calls == 1


async def test_summary_of_an_older_version_does_not_replace_a_newer_one(
    database: Database, summarizer_of: OpenSummarizer
) -> None:
    lead_id = await stored_lead(database, city="London")
    slow = Waits(answer("of London"))
    async with summarizer_of(slow) as one, summarizer_of(Says(answer("of Paris"))) as other:
        old = asyncio.create_task(one.ask(requested(lead_id)))
        await slow.asked.wait()
        await change(database, lead_id, "Paris")
        await other.ask(requested(lead_id))
        slow.go.set()
        outcome = await old
    lead = await stored(database, lead_id)
    assert (lead["summary"], lead["summary_stale"]) == ("of Paris", False)
    assert orjson.loads(outcome.body)["summary"] == "of Paris"


async def test_lead_edited_while_the_model_works_ends_with_a_stale_summary(
    database: Database, summarizer_of: OpenSummarizer
) -> None:
    lead_id = await stored_lead(database, city="London")
    provider = Waits(answer("of London"))
    async with summarizer_of(provider) as summarizer:
        asked = asyncio.create_task(summarizer.ask(requested(lead_id)))
        await provider.asked.wait()
        await change(database, lead_id, "Paris")
        provider.go.set()
        outcome = await asked
    assert orjson.loads(outcome.body)["summaryStale"] is True


async def test_lead_deleted_while_the_model_works_is_not_found(
    database: Database, summarizer_of: OpenSummarizer
) -> None:
    lead_id = await stored_lead(database)
    provider = Waits()
    event = requested(lead_id)
    async with summarizer_of(provider) as summarizer:
        asked = asyncio.create_task(summarizer.ask(event))
        await provider.asked.wait()
        async with database.connection() as connection:
            await connection.execute("DELETE FROM leads.lead WHERE id = $1", lead_id)
        provider.go.set()
        assert (await asked).status is OutcomeStatus.NOT_FOUND
    async with database.connection() as connection:
        assert (
            await connection.fetchval("SELECT outcome FROM leads.event WHERE id = $1", event.id)
            == "not-found"
        )
