"""Requests that meet: one model call per input, one effect per event, an answer for everybody."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import orjson
from redis.asyncio import Redis

from shared.domain.summary import FailureReason
from shared.events.outcome import OutcomeStatus
from shared.storage.pool import Database
from shared.streams.codec import entries_of
from tests.integration.summarizer.conftest import OpenSummarizer, reason, rows, stored
from tests.support.eventually import eventually
from tests.support.summaries import Says, Waits, answer, is_down, requested, stored_lead


async def waits_for_a_lock(database: Database) -> bool:
    async with database.connection() as connection:
        return bool(
            await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        )


async def test_ten_requests_at_two_replicas_make_one_call(
    database: Database, redis: Redis, summarizer_of: OpenSummarizer
) -> None:
    lead_id = await stored_lead(database)
    provider = Says(delay=timedelta(milliseconds=200))
    events = [requested(lead_id, reply_to=f"reply:{number}") for number in range(10)]
    async with summarizer_of(provider) as one, summarizer_of(provider) as other:
        outcomes = await asyncio.gather(
            *(
                summarizer.ask(event)
                for summarizer, event in zip([one, other] * 5, events, strict=True)
            )
        )
    assert provider.calls == 1
    [answered] = [outcome for outcome in outcomes if outcome.answered]
    for event, outcome in zip(events, outcomes, strict=True):
        if not outcome.answered:
            [entry] = entries_of(await redis.xrange(str(event.reply_to)))
            assert entry.fields[b"id"].decode() == str(event.id)
            assert entry.fields[b"body"] == answered.body
    ends = await rows(database, lead_id)
    assert {(row["state"], row["outcome"], row["summary"]) for row in ends} == {
        ("succeeded", "summarised", "Hello")
    }
    assert (await stored(database, lead_id))["version"] == 2


async def test_requests_that_joined_a_failure_fail_with_it(
    database: Database, summarizer_of: OpenSummarizer
) -> None:
    lead_id = await stored_lead(database)
    provider = Waits(is_down())
    async with summarizer_of(provider) as summarizer:
        leader = asyncio.create_task(summarizer.ask(requested(lead_id)))
        await provider.asked.wait()
        assert not (await summarizer.ask(requested(lead_id))).answered
        provider.go.set()
        assert reason(await leader) == "provider-unavailable"
    assert [row["reason"] for row in await rows(database, lead_id)] == ["provider-unavailable"] * 2


async def test_event_delivered_again_has_no_second_effect(
    database: Database, summarizer_of: OpenSummarizer
) -> None:
    lead_id = await stored_lead(database)
    provider = Says()
    event = requested(lead_id)
    async with summarizer_of(provider) as summarizer:
        first = await summarizer.ask(event)
        again = await summarizer.ask(event)
    assert again == first
    assert provider.calls == 1
    assert len(await rows(database, lead_id)) == 1


async def test_same_event_twice_at_once_is_answered_once(
    database: Database, summarizer_of: OpenSummarizer
) -> None:
    lead_id = await stored_lead(database)
    provider = Says()
    event = requested(lead_id)
    async with summarizer_of(provider) as summarizer:
        outcomes = await asyncio.gather(summarizer.ask(event), summarizer.ask(event))
    assert sorted(outcome.answered for outcome in outcomes) == [False, True]
    assert provider.calls == 1


async def test_same_event_from_another_process_is_answered_there_too(
    database: Database, summarizer_of: OpenSummarizer
) -> None:
    event = requested(await stored_lead(database), reply_to="reply:1")
    provider = Waits()
    async with summarizer_of(provider) as summarizer:
        first = asyncio.create_task(summarizer.ask(event), name="first")
        await provider.asked.wait()
        second = asyncio.create_task(
            summarizer.ask(replace(event, reply_to="reply:2")), name="second"
        )
        await asyncio.sleep(0)  # in which it finds the first at work
        provider.go.set()
        outcomes = await asyncio.gather(first, second)
    assert [outcome.answered for outcome in outcomes] == [True, True]
    assert outcomes[0].body == outcomes[1].body
    assert provider.calls == 1


class TestRepeatedByAnotherProcess:
    """A request that joined another one's work is asked for again, with another reply address."""

    async def test_the_end_goes_to_the_latest_address(
        self, database: Database, redis: Redis, summarizer_of: OpenSummarizer
    ) -> None:
        lead_id = await stored_lead(database)
        joined = requested(lead_id, reply_to="reply:old")
        async with summarizer_of(provider := Waits()) as summarizer:
            leader = asyncio.create_task(summarizer.ask(requested(lead_id)), name="leader")
            await provider.asked.wait()
            for address in ("reply:old", "reply:new"):
                outcome = await summarizer.ask(replace(joined, reply_to=address))
                assert outcome.status is OutcomeStatus.JOINED
            provider.go.set()
            await leader
        assert await redis.exists("reply:old") == 0
        assert await redis.xlen("reply:new") == 1

    async def test_also_when_the_end_comes_at_the_same_time(
        self, database: Database, redis: Redis, summarizer_of: OpenSummarizer
    ) -> None:
        lead_id = await stored_lead(database)
        joined = requested(lead_id, reply_to="reply:old")
        async with (
            summarizer_of(provider := Waits()) as summarizer,
            database.connection() as connection,
        ):
            leader = asyncio.create_task(summarizer.ask(requested(lead_id)), name="leader")
            await provider.asked.wait()
            await summarizer.ask(joined)
            async with connection.transaction():
                await connection.execute(
                    "UPDATE leads.summary SET reply_to = 'reply:new' WHERE id = $1", joined.id
                )
                provider.go.set()
                await eventually(lambda: waits_for_a_lock(database))
            await leader
        assert await redis.exists("reply:old") == 0
        assert await redis.xlen("reply:new") == 1

    async def test_it_is_answered_at_once_when_the_end_came_first(
        self, database: Database, summarizer_of: OpenSummarizer
    ) -> None:
        lead_id = await stored_lead(database)
        joined = requested(lead_id, reply_to="reply:old")
        async with (
            summarizer_of(provider := Waits()) as summarizer,
            database.connection() as connection,
        ):
            leader = asyncio.create_task(summarizer.ask(requested(lead_id)), name="leader")
            await provider.asked.wait()
            await summarizer.ask(joined)
            async with connection.transaction():
                await connection.execute(
                    "UPDATE leads.summary SET state = 'failed', reason = 'expired', "
                    "finished_at = now() WHERE id = $1",
                    joined.id,
                )
                again = asyncio.create_task(
                    summarizer.ask(replace(joined, reply_to="reply:new")), name="again"
                )
                await eventually(lambda: waits_for_a_lock(database))
                # Not before: recording an event waits for a change of its row.
                await connection.execute(
                    "UPDATE leads.event SET outcome = 'failed', detail = $2 WHERE id = $1",
                    joined.id,
                    '{"reason": "expired"}',
                )
            assert reason(await again) == FailureReason.EXPIRED
            provider.go.set()
            await leader


async def test_same_id_for_another_wish_is_refused(
    database: Database, summarizer_of: OpenSummarizer
) -> None:
    lead_id, other = await stored_lead(database), await stored_lead(database)
    event = requested(lead_id)
    async with summarizer_of(Says()) as summarizer:
        await summarizer.ask(event)
        outcome = await summarizer.ask(requested(other, event_id=event.id))
    assert outcome.status is OutcomeStatus.KEY_REUSED
    assert await rows(database, other) == []


async def test_same_id_for_another_wish_does_not_disturb_the_first(
    database: Database, summarizer_of: OpenSummarizer
) -> None:
    lead_id = await stored_lead(database)
    event = requested(lead_id)
    provider = Waits()
    async with summarizer_of(provider) as one, summarizer_of(Says(answer("stolen"))) as other:
        first = asyncio.create_task(one.ask(event))
        await provider.asked.wait()
        reused = await other.ask(requested(lead_id, event_id=event.id, regenerate=True))
        provider.go.set()
        assert orjson.loads((await first).body)["summary"] == "Hello"
    assert reused.status is OutcomeStatus.KEY_REUSED
