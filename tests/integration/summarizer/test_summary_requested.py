"""A request for a summary: one effect per event, one model call per input, an end for everybody."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from redis.asyncio import Redis

from shared.domain.errors import PermanentError
from shared.domain.summary import FailureReason
from shared.events.envelope import new_id
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.pool import Database
from shared.streams.codec import decode
from shared.streams.entries import entries_of
from tests.integration.summarizer.conftest import OpenDesk
from tests.support.eventually import eventually
from tests.support.summaries import (
    Says,
    Waits,
    answer,
    is_down,
    requested,
    stored_lead,
    stored_leads,
)


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


async def waits_for_a_lock(database: Database) -> bool:
    async with database.connection() as connection:
        return bool(
            await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        )


def reason(outcome: Outcome) -> str:
    assert outcome.status is OutcomeStatus.FAILED
    return str(orjson.loads(outcome.body)["reason"])


async def test_summary_reaches_lead_cache_and_readers(
    database: Database, redis: Redis, desk_of: OpenDesk
) -> None:
    lead_id = await stored_lead(database)
    async with desk_of(Says()) as desk:
        outcome = await desk.ask(requested(lead_id, requested_by="somebody"))
        cached = await desk.cache.get(lead_id)
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
    database: Database, desk_of: OpenDesk
) -> None:
    lead_id = await stored_lead(
        database, email="canary@example.com", phone="555-CANARY", dob="1990-12-24"
    )
    provider = Says()
    async with desk_of(provider) as desk:
        await desk.ask(requested(lead_id))
    text = "".join(message.content for message in provider.prompts[0].messages)
    assert "Ada" in text
    assert not any(secret in text for secret in ("canary", "CANARY", "1990"))


async def test_unknown_lead_is_not_found(desk_of: OpenDesk) -> None:
    provider = Says()
    event = requested(new_id())
    async with desk_of(provider) as desk:
        first, again = await desk.ask(event), await desk.ask(event)
    assert first.status is again.status is OutcomeStatus.NOT_FOUND
    assert provider.calls == 0


async def test_unchanged_lead_is_answered_without_a_call(
    database: Database, desk_of: OpenDesk
) -> None:
    lead_id = await stored_lead(database)
    provider = Says()
    async with desk_of(provider) as desk:
        first = await desk.ask(requested(lead_id))
        second = await desk.ask(requested(lead_id))
    assert second == Outcome(OutcomeStatus.REUSED, first.body)
    assert provider.calls == 1
    assert [row["reused"] for row in await rows(database, lead_id)] == [False, True]


async def test_changed_lead_is_summarised_anew_and_back_again_without_a_call(
    database: Database, desk_of: OpenDesk
) -> None:
    lead_id = await stored_lead(database, city="London")
    provider = Says(answer("of London"), answer("of Paris"))
    async with desk_of(provider) as desk:
        await desk.ask(requested(lead_id))
        await change(database, lead_id, "Paris")
        await desk.ask(requested(lead_id))
        assert (await stored(database, lead_id))["summary"] == "of Paris"
        await change(database, lead_id, "London")
        outcome = await desk.ask(requested(lead_id))
    lead = await stored(database, lead_id)
    assert provider.calls == 2
    assert (lead["summary"], lead["summary_stale"]) == ("of London", False)
    assert orjson.loads(outcome.body)["summary"] == "of London"


async def test_regenerate_calls_again(database: Database, desk_of: OpenDesk) -> None:
    lead_id = await stored_lead(database)
    provider = Says(answer("old"), answer("new"))
    async with desk_of(provider) as desk:
        await desk.ask(requested(lead_id))
        outcome = await desk.ask(requested(lead_id, regenerate=True))
    assert provider.calls == 2
    assert orjson.loads(outcome.body)["summary"] == "new"


async def test_failed_regeneration_keeps_the_old_summary(
    database: Database, desk_of: OpenDesk
) -> None:
    lead_id = await stored_lead(database)
    async with desk_of(Says(answer("old"), is_down())) as desk:
        await desk.ask(requested(lead_id))
        outcome = await desk.ask(requested(lead_id, regenerate=True))
    assert reason(outcome) == "provider-unavailable"
    assert (await stored(database, lead_id))["summary"] == "old"
    failed = (await rows(database, lead_id))[1]
    assert (failed["state"], failed["reason"], failed["outcome"]) == (
        "failed",
        "provider-unavailable",
        "failed",
    )


async def test_ten_requests_at_two_replicas_make_one_call(
    database: Database, redis: Redis, desk_of: OpenDesk
) -> None:
    lead_id = await stored_lead(database)
    provider = Says(delay=timedelta(milliseconds=200))
    events = [requested(lead_id, reply_to=f"reply:{number}") for number in range(10)]
    async with desk_of(provider) as one, desk_of(provider) as other:
        outcomes = await asyncio.gather(
            *(desk.ask(event) for desk, event in zip([one, other] * 5, events, strict=True))
        )
    assert provider.calls == 1
    [told] = [outcome for outcome in outcomes if outcome.answered]
    for event, outcome in zip(events, outcomes, strict=True):
        if not outcome.answered:
            [entry] = entries_of(await redis.xrange(str(event.reply_to)))
            assert entry.fields[b"id"].decode() == str(event.id)
            assert entry.fields[b"body"] == told.body
    ends = await rows(database, lead_id)
    assert {(row["state"], row["outcome"], row["summary"]) for row in ends} == {
        ("succeeded", "summarised", "Hello")
    }
    assert (await stored(database, lead_id))["version"] == 2


async def test_requests_that_joined_a_failure_fail_with_it(
    database: Database, desk_of: OpenDesk
) -> None:
    lead_id = await stored_lead(database)
    provider = Waits(is_down())
    async with desk_of(provider) as desk:
        leader = asyncio.create_task(desk.ask(requested(lead_id)))
        await provider.asked.wait()
        assert not (await desk.ask(requested(lead_id))).answered
        provider.go.set()
        assert reason(await leader) == "provider-unavailable"
    assert [row["reason"] for row in await rows(database, lead_id)] == ["provider-unavailable"] * 2


async def test_event_delivered_again_has_no_second_effect(
    database: Database, desk_of: OpenDesk
) -> None:
    lead_id = await stored_lead(database)
    provider = Says()
    event = requested(lead_id)
    async with desk_of(provider) as desk:
        first = await desk.ask(event)
        again = await desk.ask(event)
    assert again == first
    assert provider.calls == 1
    assert len(await rows(database, lead_id)) == 1


async def test_same_event_twice_at_once_is_answered_once(
    database: Database, desk_of: OpenDesk
) -> None:
    lead_id = await stored_lead(database)
    provider = Says()
    event = requested(lead_id)
    async with desk_of(provider) as desk:
        outcomes = await asyncio.gather(desk.ask(event), desk.ask(event))
    assert sorted(outcome.answered for outcome in outcomes) == [False, True]
    assert provider.calls == 1


async def test_same_event_from_another_process_is_answered_there_too(
    database: Database, desk_of: OpenDesk
) -> None:
    event = requested(await stored_lead(database), reply_to="reply:1")
    provider = Waits()
    async with desk_of(provider) as desk:
        first = asyncio.create_task(desk.ask(event), name="first")
        await provider.asked.wait()
        second = asyncio.create_task(desk.ask(replace(event, reply_to="reply:2")), name="second")
        await asyncio.sleep(0)  # in which it finds the first at work
        provider.go.set()
        outcomes = await asyncio.gather(first, second)
    assert [outcome.answered for outcome in outcomes] == [True, True]
    assert outcomes[0].body == outcomes[1].body
    assert provider.calls == 1


class TestRepeatedByAnotherProcess:
    """A request that joined another one's work is asked for again, with another reply address."""

    async def test_the_end_goes_to_the_latest_address(
        self, database: Database, redis: Redis, desk_of: OpenDesk
    ) -> None:
        lead_id = await stored_lead(database)
        joined = requested(lead_id, reply_to="reply:old")
        async with desk_of(provider := Waits()) as desk:
            leader = asyncio.create_task(desk.ask(requested(lead_id)), name="leader")
            await provider.asked.wait()
            for address in ("reply:old", "reply:new"):
                outcome = await desk.ask(replace(joined, reply_to=address))
                assert outcome.status is OutcomeStatus.JOINED
            provider.go.set()
            await leader
        assert await redis.exists("reply:old") == 0
        assert await redis.xlen("reply:new") == 1

    async def test_also_when_the_end_comes_at_the_same_time(
        self, database: Database, redis: Redis, desk_of: OpenDesk
    ) -> None:
        lead_id = await stored_lead(database)
        joined = requested(lead_id, reply_to="reply:old")
        async with desk_of(provider := Waits()) as desk, database.connection() as connection:
            leader = asyncio.create_task(desk.ask(requested(lead_id)), name="leader")
            await provider.asked.wait()
            await desk.ask(joined)
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
        self, database: Database, desk_of: OpenDesk
    ) -> None:
        lead_id = await stored_lead(database)
        joined = requested(lead_id, reply_to="reply:old")
        async with desk_of(provider := Waits()) as desk, database.connection() as connection:
            leader = asyncio.create_task(desk.ask(requested(lead_id)), name="leader")
            await provider.asked.wait()
            await desk.ask(joined)
            async with connection.transaction():
                await connection.execute(
                    "UPDATE leads.summary SET state = 'failed', reason = 'expired', "
                    "finished_at = now() WHERE id = $1",
                    joined.id,
                )
                again = asyncio.create_task(
                    desk.ask(replace(joined, reply_to="reply:new")), name="again"
                )
                await eventually(lambda: waits_for_a_lock(database))
                # Not before: whoever records an event waits for a change of its row.
                await connection.execute(
                    "UPDATE leads.event SET outcome = 'failed', detail = $2 WHERE id = $1",
                    joined.id,
                    '{"reason": "expired"}',
                )
            assert reason(await again) == FailureReason.EXPIRED
            provider.go.set()
            await leader


async def test_same_id_for_another_wish_is_refused(database: Database, desk_of: OpenDesk) -> None:
    lead_id, other = await stored_lead(database), await stored_lead(database)
    event = requested(lead_id)
    async with desk_of(Says()) as desk:
        await desk.ask(event)
        outcome = await desk.ask(requested(other, event_id=event.id))
    assert outcome.status is OutcomeStatus.KEY_REUSED
    assert await rows(database, other) == []


async def test_same_id_for_another_wish_does_not_disturb_the_first(
    database: Database, desk_of: OpenDesk
) -> None:
    lead_id = await stored_lead(database)
    event = requested(lead_id)
    provider = Waits()
    async with desk_of(provider) as one, desk_of(Says(answer("stolen"))) as other:
        first = asyncio.create_task(one.ask(event))
        await provider.asked.wait()
        reused = await other.ask(requested(lead_id, event_id=event.id, regenerate=True))
        provider.go.set()
        assert orjson.loads((await first).body)["summary"] == "Hello"
    assert reused.status is OutcomeStatus.KEY_REUSED


async def test_work_of_a_dead_worker_is_taken_over_and_its_late_result_refused(
    database: Database, redis: Redis, desk_of: OpenDesk
) -> None:
    lead_id = await stored_lead(database)
    event, follower = requested(lead_id), requested(lead_id, reply_to="reply:follower")
    slow = Waits(answer("from the dead"))
    async with desk_of(slow) as dead, desk_of(Says(answer("from the living"))) as alive:
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
    database: Database, desk_of: OpenDesk
) -> None:
    lead_id = await stored_lead(database)
    event = requested(lead_id)
    first, second = Waits(answer("first")), Waits(answer("second"))
    async with desk_of(first) as one, desk_of(second) as other:
        overtaken = asyncio.create_task(one.ask(event))
        await first.asked.wait()
        owner = asyncio.create_task(other.ask(event))
        await second.asked.wait()
        first.go.set()
        assert not (await overtaken).answered
        second.go.set()
        assert orjson.loads((await owner).body)["summary"] == "second"


async def test_worker_that_died_before_telling_has_it_told_by_the_next(
    database: Database, redis: Redis, desk_of: OpenDesk
) -> None:
    lead_id = await stored_lead(database)
    event, follower = requested(lead_id), requested(lead_id, reply_to="reply:follower")
    provider = Waits()
    async with desk_of(provider) as desk:
        leader = asyncio.create_task(desk.ask(event))
        await provider.asked.wait()
        await desk.ask(follower)
        provider.go.set()
        await leader
        await redis.flushall()
        again = await desk.ask(event)
        cached = await desk.cache.get(lead_id)
    assert cached is not None
    assert cached.json == again.body
    assert len(entries_of(await redis.xrange("reply:follower"))) == 1
    assert provider.calls == 1


async def test_summary_of_an_older_version_does_not_replace_a_newer_one(
    database: Database, desk_of: OpenDesk
) -> None:
    lead_id = await stored_lead(database, city="London")
    slow = Waits(answer("of London"))
    async with desk_of(slow) as one, desk_of(Says(answer("of Paris"))) as other:
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
    database: Database, desk_of: OpenDesk
) -> None:
    lead_id = await stored_lead(database, city="London")
    provider = Waits(answer("of London"))
    async with desk_of(provider) as desk:
        asked = asyncio.create_task(desk.ask(requested(lead_id)))
        await provider.asked.wait()
        await change(database, lead_id, "Paris")
        provider.go.set()
        outcome = await asked
    assert orjson.loads(outcome.body)["summaryStale"] is True


async def test_lead_deleted_while_the_model_works_is_not_found(
    database: Database, desk_of: OpenDesk
) -> None:
    lead_id = await stored_lead(database)
    provider = Waits()
    event = requested(lead_id)
    async with desk_of(provider) as desk:
        asked = asyncio.create_task(desk.ask(event))
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


async def test_request_that_takes_too_long_fails_by_its_deadline(
    database: Database, desk_of: OpenDesk
) -> None:
    lead_id = await stored_lead(database)
    async with desk_of(Waits(), patience=timedelta(milliseconds=100)) as desk:
        assert reason(await desk.ask(requested(lead_id))) == "timeout"


async def test_quota_counts_calls_and_nothing_else(database: Database, desk_of: OpenDesk) -> None:
    leads = await stored_leads(database, 3)
    async with desk_of(Says(), quota=2) as desk:

        async def ask(number: int, **changes: Any) -> Outcome:
            return await desk.ask(requested(leads[number], requested_by="somebody", **changes))

        event = requested(leads[0], requested_by="somebody")
        for _ in range(3):
            assert (await desk.ask(event)).status is OutcomeStatus.SUMMARISED
        assert (await ask(0)).status is OutcomeStatus.REUSED  # reused
        assert (await ask(1)).status is OutcomeStatus.SUMMARISED
        refused = await ask(2)
        assert reason(refused) == FailureReason.QUOTA
        assert orjson.loads(refused.body)["retryAfter"] > 0
        assert reason(await ask(1, regenerate=True)) == FailureReason.QUOTA
        assert (await ask(1)).status is OutcomeStatus.REUSED  # still reused
        other = await desk.ask(requested(leads[2], requested_by="somebody else"))
        assert other.status is OutcomeStatus.SUMMARISED


async def test_replay_calls_no_model(database: Database, desk_of: OpenDesk) -> None:
    lead_id = await stored_lead(database)
    provider = Says()
    async with desk_of(provider) as desk:
        unknown = await desk.ask(requested(lead_id, replay_id="replay-1"))
        event = requested(lead_id)
        await desk.ask(event)
        known = await desk.ask(requested(lead_id, event_id=event.id, replay_id="replay-1"))
    assert reason(unknown) == "replayed"
    assert known.status is OutcomeStatus.SUMMARISED
    assert provider.calls == 1


@pytest.mark.parametrize("envelope", [{"replay_id": "replay-2", "with_model": True}, {}])
async def test_what_a_replay_ended_without_a_model_is_done_when_one_may_be_called(
    envelope: dict[str, Any], database: Database, redis: Redis, desk_of: OpenDesk
) -> None:
    lead_id = await stored_lead(database)
    event = requested(lead_id, requested_by="somebody")
    async with desk_of(provider := Says()) as desk:
        for _ in range(2):
            assert reason(await desk.ask(replace(event, replay_id="replay-1"))) == "replayed"
        done = await desk.ask(replace(event, **envelope))
        again = await desk.ask(replace(event, **envelope))
        cached = await desk.cache.get(lead_id)
    assert (done.status, done.repeated) == (OutcomeStatus.SUMMARISED, False)
    assert (again, again.repeated, provider.calls) == (done, True, 1)
    [row] = await rows(database, lead_id)
    assert (row["state"], row["outcome"]) == ("succeeded", "summarised")
    # The news gets about, as that of any summary.
    assert cached is not None
    assert cached.json == done.body
    assert decode(entries_of(await redis.xrange("stream:changes"))[0].fields).subject == str(
        lead_id
    )


async def test_another_failure_is_one_for_good(database: Database, desk_of: OpenDesk) -> None:
    event = requested(await stored_lead(database))
    async with desk_of(provider := Says(is_down())) as desk:
        failed = await desk.ask(event)
        replayed = await desk.ask(replace(event, replay_id="replay-1", with_model=True))
    assert reason(failed) == reason(replayed) == FailureReason.PROVIDER_UNAVAILABLE
    assert provider.calls == 1


async def test_replay_gives_a_lead_that_was_lost_its_summary_back_without_a_call(
    database: Database, desk_of: OpenDesk
) -> None:
    lead_id = await stored_lead(database)
    event = requested(lead_id)
    async with desk_of(Says()) as desk:
        await desk.ask(event)
    before = await stored(database, lead_id)
    async with database.connection() as connection:
        # As after a replay of its creation: the lead as it was before, its summaries gone.
        await connection.execute("DELETE FROM leads.summary WHERE lead_id = $1", lead_id)
        await connection.execute(
            """
            UPDATE leads.lead SET summary = NULL, next_action = NULL, version = version - 1,
                   updated_at = created_at
            WHERE id = $1
            """,
            lead_id,
        )
    async with desk_of(provider := Says()) as desk:
        first = await desk.ask(replace(event, replay_id="replay-1"))
        second = await desk.ask(replace(event, replay_id="replay-2"))
    assert await stored(database, lead_id) == before
    assert (first.repeated, second.repeated, provider.calls) == (False, True, 0)


@pytest.mark.parametrize("text", ["nul\x00", "\x00"])
async def test_text_that_cannot_be_stored_is_refused_alone(
    database: Database, desk_of: OpenDesk, text: str
) -> None:
    lead_id = await stored_lead(database)
    async with desk_of(Says()) as desk:
        with pytest.raises(PermanentError):
            await desk.ask(requested(lead_id, requested_by=text))
        assert (await desk.ask(requested(lead_id))).status is OutcomeStatus.SUMMARISED


async def test_two_hundred_leads_at_once(database: Database, desk_of: OpenDesk) -> None:
    leads = await stored_leads(database, 50)
    provider = Says(delay=timedelta(milliseconds=20))
    events = [requested(lead_id) for lead_id in leads * 4]
    async with desk_of(provider) as desk, desk_of(provider) as other:
        outcomes = await asyncio.gather(
            *((desk, other)[number % 2].ask(event) for number, event in enumerate(events))
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
