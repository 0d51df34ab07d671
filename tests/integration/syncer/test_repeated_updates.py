"""lead-updated events that race, come twice or are replayed: each counts once, in order."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import orjson
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from shared.cache.lead_cache import LeadCache
from shared.domain.errors import TransientError, UnavailableError
from shared.events import catalog
from shared.events.envelope import Event, new_id
from shared.events.outcome import OutcomeStatus
from shared.settings import CacheSettings, StreamsSettings
from shared.storage.pool import Database
from shared.streams.codec import entries_of
from tests.integration.syncer.conftest import (
    Asker,
    Handlers,
    OpenHandlers,
    StartSyncer,
    body,
    created,
    leads_table,
    lose_leads,
)
from tests.support.builders import lead_created, lead_fields, lead_updated
from tests.support.summaries import Says, open_summarizer, requested


async def test_of_racing_updates_of_one_version_one_wins(
    start_syncer: StartSyncer, asker: Asker
) -> None:
    async with start_syncer(), start_syncer():
        [lead] = await asker.ask([lead_created()])
        racers = [
            lead_updated(body(lead)["id"], city=f"City {number}", expected_version=1)
            for number in range(8)
        ]
        outcomes = await asker.ask(racers)
    statuses = [outcome.status for outcome in outcomes]
    assert statuses.count(OutcomeStatus.UPDATED) == 1
    assert statuses.count(OutcomeStatus.VERSION_MISMATCH) == 7


async def test_of_racers_for_one_e_mail_address_one_wins(
    open_handlers: OpenHandlers, database: Database
) -> None:
    async with open_handlers() as one, open_handlers() as other:
        lead_ids = [await created(one) for _ in range(8)]
        outcomes = await asyncio.gather(
            *(
                (one, other)[number % 2].one(lead_updated(lead_id, email="wanted@example.com"))
                for number, lead_id in enumerate(lead_ids)
            )
        )
    statuses = [outcome.status for outcome in outcomes]
    assert statuses.count(OutcomeStatus.UPDATED) == 1
    assert statuses.count(OutcomeStatus.DUPLICATE) == 7
    assert len([one for one in await leads_table(database) if one["version"] == 2]) == 1


async def test_batches_that_cross_do_not_stop_each_other(
    open_handlers: OpenHandlers, database: Database
) -> None:
    async with open_handlers() as one, open_handlers() as other:
        lead_ids = [await created(one) for _ in range(20)]

        async def change(replica: Handlers, order: Sequence[UUID]) -> None:
            for number in range(5):
                await replica.handle(*(lead_updated(key, city=f"City {number}") for key in order))

        await asyncio.gather(change(one, lead_ids), change(other, lead_ids[::-1]))
    assert {one["city"] for one in await leads_table(database)} == {"City 4"}


async def test_an_event_that_comes_twice_is_applied_once(handlers: Handlers) -> None:
    lead_id = await created(handlers)
    event = lead_updated(lead_id, city="Rome")
    first, second = await handlers.handle(event, event)
    third = await handlers.one(event)

    assert first.body == second.body == third.body
    assert body(third)["version"] == 2


async def test_an_id_that_belongs_to_another_wish_is_refused(handlers: Handlers) -> None:
    lead_id, event_id = await created(handlers), new_id()
    first, second = await handlers.handle(
        lead_updated(lead_id, event_id=event_id, city="Rome"),
        lead_updated(lead_id, event_id=event_id, city="Oslo"),
    )

    assert first.status is OutcomeStatus.UPDATED
    assert second.status is OutcomeStatus.KEY_REUSED


async def test_what_was_committed_and_not_announced_is_announced_the_next_time(
    open_handlers: OpenHandlers, cache: LeadCache, redis: Redis
) -> None:
    nowhere = CacheSettings(cache_redis_url=SecretStr("redis://127.0.0.1:9"))
    async with open_handlers() as well, open_handlers(cache=nowhere) as cut_off:
        lead_id = await created(well)
        event = lead_updated(lead_id, city="Rome")
        with pytest.raises(UnavailableError):
            await cut_off.one(event)
        stale = await cache.get(lead_id)
        outcome = await well.one(event)
    assert stale is not None
    assert stale.version == 1
    fresh = await cache.get(lead_id)
    assert fresh is not None
    assert (fresh.version, fresh.json) == (2, outcome.body)
    *_, announced = entries_of(await redis.xrange(catalog.CHANGES))
    assert orjson.loads(announced.fields[b"data"])["change"] == "updated"


async def test_a_replay_makes_the_lead_again_as_it_was(
    handlers: Handlers, database: Database, redis: Redis, streams_settings: StreamsSettings
) -> None:
    made = lead_created(lead_fields(city="London"))
    lead_id = UUID(made.subject)
    before_summary = [lead_updated(lead_id, city="Rome"), lead_updated(lead_id, city="Oslo")]
    after_summary = lead_updated(lead_id, first_name="Grace")
    await handlers.one(made)
    await handlers.handle(*before_summary)
    async with open_summarizer(database, redis, streams_settings, Says()) as summarizer:
        await summarizer.ask(requested(lead_id))
    await handlers.one(after_summary)
    before = await leads_table(database)
    history = [made, *before_summary, after_summary]

    unneeded = [await handlers.one(replace(event, replay_id="one")) for event in history]
    assert all(outcome.repeated for outcome in unneeded)
    assert await leads_table(database) == before
    await lose_leads(database)
    needed = [await handlers.one(replace(event, replay_id="two")) for event in history]
    assert not any(outcome.repeated for outcome in needed)
    # No replay brings the summary back, but its version stays taken.
    unsummarised = {"summary": None, "next_action": None, "summary_stale": False}
    assert await leads_table(database) == [before[0] | unsummarised]


async def test_events_from_before_there_were_stamps_are_replayed_with_their_own_times(
    handlers: Handlers, database: Database
) -> None:
    made = lead_created()
    changed = lead_updated(made.subject, city="Rome")
    for event in (made, changed):
        await handlers.one(event)
    async with database.connection() as connection:
        await connection.execute("UPDATE leads.event SET applied_at = NULL")
    await lose_leads(database)
    for event in (made, changed):
        await handlers.one(replace(event, replay_id="replay"))
    [lead] = await leads_table(database)
    assert (lead["created_at"], lead["updated_at"]) == (made.time, changed.time)


async def test_a_replayed_change_waits_for_the_one_before_it(
    handlers: Handlers, database: Database
) -> None:
    made = lead_created()
    first, second = (lead_updated(made.subject, city=city) for city in ("Rome", "Oslo"))
    for event in (made, first, second):
        await handlers.one(event)
    before = await leads_table(database)
    await lose_leads(database)
    replayed = [replace(event, replay_id="replay") for event in (made, first, second)]

    async def too_early(event: Event) -> bool:
        with pytest.raises(TransientError):
            await handlers.one(event)
        return True

    assert await too_early(replayed[1])
    await handlers.one(replayed[0])
    assert await too_early(replayed[2])
    await handlers.one(replayed[1])
    await handlers.one(replayed[2])
    assert await leads_table(database) == before
    # What it waits for may be left out of the replay: then it is left out too.
    await lose_leads(database)
    await handlers.one(replayed[0])
    given_up = await handlers.one(replace(replayed[2], attempt=3))
    assert given_up.repeated
