"""Leads that were lost, or are behind their archive, become what their events made of them."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
import pytest
from redis.asyncio import Redis

from shared.domain.errors import PermanentError
from shared.events import catalog
from shared.events.envelope import Event, new_id
from shared.events.outcome import Outcome, OutcomeStatus
from shared.events.replay import ReplayOrder, ReplayOrigin
from shared.settings import StreamsSettings
from shared.storage.event_archive import ArchiveSource
from shared.storage.pool import Database
from shared.streams.codec import entries_of
from tests.integration.syncer.conftest import (
    Handlers,
    OpenHandlers,
    body,
    leads_table,
    lose_leads,
    rows,
)
from tests.support.builders import (
    lead_created,
    lead_deleted,
    lead_fields,
    lead_updated,
    lead_upserted,
)
from tests.support.summaries import Says, open_summarizer, requested


async def happen(handlers: Handlers, *events: Event) -> None:
    for event in events:
        await handlers.one(event)


async def replay(handlers: Handlers, *events: Event) -> list[Outcome]:
    return [await handlers.one(replace(event, replay_id="replay")) for event in events]


async def fall_behind(database: Database, backup: Sequence[dict[str, Any]]) -> None:
    """Restore leads, and nothing else, from a backup."""
    await lose_leads(database)
    columns = [name for name in backup[0] if name != "search_text"]
    places = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
    async with database.connection() as connection:
        await connection.executemany(
            f"INSERT INTO leads.lead ({', '.join(columns)}) VALUES ({places})",  # noqa: S608 (constants)
            [[row[name] for name in columns] for row in backup],
        )


async def test_each_event_of_a_lead_brings_all_of_it_back(
    handlers: Handlers, database: Database, redis: Redis, streams_settings: StreamsSettings
) -> None:
    made = lead_created(lead_fields(city="London"))
    before_summary = [
        lead_updated(made.subject, city="Rome", status="contacted"),
        lead_updated(made.subject, external_id=new_id()),
    ]
    after_summary = lead_updated(made.subject, first_name="Grace")
    await happen(handlers, made, *before_summary)
    async with open_summarizer(database, redis, streams_settings, Says()) as summarizer:
        await summarizer.ask(requested(UUID(made.subject)))
        await happen(handlers, after_summary)
        stale = await leads_table(database)
        # The lead is again what it was when the summary was written: no model writes another.
        await happen(handlers, undone := lead_updated(made.subject, first_name="Ada"))
        await summarizer.ask(requested(UUID(made.subject)))
    history = [made, *before_summary, after_summary, undone]
    before = await leads_table(database)
    assert (stale[0]["summary_stale"], before[0]["summary_stale"]) == (True, False)

    assert all(outcome.repeated for outcome in await replay(handlers, *history))
    assert await leads_table(database) == before
    for event in history:
        await lose_leads(database)
        [needed, again] = await replay(handlers, event, event)
        assert (needed.repeated, again.repeated) == (False, True)
        assert needed.status is (await handlers.one(event)).status
        assert await leads_table(database) == before


@pytest.mark.parametrize(("city", "is_stale"), [("Rome", True), ("London", False)])
async def test_a_summary_comes_back_as_stale_as_it_was(
    *,
    city: str,
    is_stale: bool,
    handlers: Handlers,
    database: Database,
    redis: Redis,
    streams_settings: StreamsSettings,
) -> None:
    made = lead_created()
    await happen(handlers, made)
    async with open_summarizer(database, redis, streams_settings, Says()) as summarizer:
        await summarizer.ask(requested(UUID(made.subject)))
    await happen(handlers, lead_updated(made.subject, city="Oslo"))
    await happen(handlers, lead_updated(made.subject, city=city, picture="https://a.example/b"))
    before = await leads_table(database)
    assert before[0]["summary_stale"] is is_stale
    for _ in range(2):
        await lose_leads(database)
        await replay(handlers, made)
        assert await leads_table(database) == before
        await _forget_columns(database)


async def test_a_summary_that_a_lead_got_again_comes_back(
    handlers: Handlers, database: Database, redis: Redis, streams_settings: StreamsSettings
) -> None:
    made = lead_created()
    await happen(handlers, made)
    async with open_summarizer(database, redis, streams_settings, Says()) as summarizer:
        await summarizer.ask(requested(UUID(made.subject)))
        async with database.connection() as connection:
            await connection.execute("UPDATE leads.lead SET summary = NULL")
        await asyncio.gather(*(summarizer.ask(requested(UUID(made.subject))) for _ in range(3)))
    before = await leads_table(database)
    assert (before[0]["summary"] is None, before[0]["version"]) == (False, 3)
    await lose_leads(database)
    await replay(handlers, made)
    assert await leads_table(database) == before


async def _forget_columns(database: Database) -> None:
    """Make events what they were before the columns that they set were kept."""
    async with database.connection() as connection:
        await connection.execute("UPDATE leads.event SET changed = NULL")


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


async def test_addresses_that_moved_between_leads_stand_in_nobodys_way(
    open_handlers: OpenHandlers, database: Database
) -> None:
    made = [lead_created(lead_fields(email=f"{number}@example.com")) for number in range(6)]
    ids = [event.subject for event in made]
    async with open_handlers() as one, open_handlers() as other:
        await happen(one, *made)
        # Around in a ring, by way of an address of nobody's, twice.
        moves: list[Event] = []
        for turn in (1, 2):
            moves.append(lead_updated(ids[0], email="free@example.com", external_id=new_id()))
            moves += [
                lead_updated(ids[place], email=f"{(place - turn) % 6}@example.com")
                for place in (1, 2, 3, 4, 5, 0)
            ]
        await happen(one, *moves)
        before = await leads_table(database)
        assert {row["version"] for row in before} == {3, 5}
        history = [*made, *moves]
        for seed in range(3):
            await lose_leads(database)
            random.Random(seed).shuffle(history)
            halves = history[::2], history[1::2]
            await asyncio.gather(replay(one, *halves[0]), replay(other, *halves[1]))
            assert await leads_table(database) == before


async def test_batches_of_events_bring_leads_back_at_once(
    open_handlers: OpenHandlers, database: Database
) -> None:
    made = [lead_created() for _ in range(60)]
    changes = [lead_updated(event.subject, city="Rome") for event in made]
    async with open_handlers() as one, open_handlers() as other:
        await one.handle(*made)
        await one.handle(*changes)
        before = await leads_table(database)
        await lose_leads(database)
        replayed = [replace(event, replay_id="replay") for event in (*made, *changes)]
        results = await asyncio.gather(
            one.handle(*replayed[:60]), other.handle(*replayed[60:][::-1])
        )
    assert await leads_table(database) == before
    assert sum(not outcome.repeated for outcomes in results for outcome in outcomes) == 60


async def test_leads_behind_their_archive_catch_up_even_when_they_swapped_their_keys(
    handlers: Handlers, database: Database
) -> None:
    keys = [(f"{number}@example.com", new_id()) for number in range(2)]
    made = [lead_created(lead_fields(email=email, external_id=key)) for email, key in keys]
    ids = [event.subject for event in made]
    await happen(handlers, *made)
    backup = await leads_table(database)
    swap = [
        lead_updated(ids[0], email="free@example.com", external_id=None),
        lead_updated(ids[1], email=keys[0][0], external_id=keys[0][1]),
        lead_updated(ids[0], email=keys[1][0], external_id=keys[1][1]),
    ]
    await happen(handlers, *swap)
    before = await leads_table(database)
    await fall_behind(database, backup)
    # One event is enough: the other lead has what the first is to get.
    [outcome] = await replay(handlers, swap[0])
    assert await leads_table(database) == before
    assert not outcome.repeated


@pytest.mark.parametrize("group", [catalog.SYNCER, "backfill"])
async def test_the_archive_tells_what_need_not_be_put_back(
    group: str, handlers: Handlers, database: Database
) -> None:
    lost, behind, ahead = (lead_created() for _ in range(3))
    there = lead_created(lead_fields(email="there@example.com"))
    await happen(handlers, there, lost, behind, ahead)
    backup = [row for row in await leads_table(database) if str(row["id"]) != lost.subject]
    changed = [lead_updated(one.subject, city="Paris") for one in (behind, lost)]
    refused = lead_created(lead_fields(email="there@example.com"))
    await happen(handlers, *changed, refused)
    await fall_behind(database, backup)
    change = lead_updated(ahead.subject, city="Rome")
    await happen(handlers, change)
    order = ReplayOrder(origin=ReplayOrigin.ARCHIVE, stream=catalog.LEADS, group=group)
    [page] = [page async for page in ArchiveSource(database, order).pages(after=None)]
    everything = [there, lost, behind, ahead, *changed, refused, change]
    due = [lost, behind, *changed] if group == catalog.SYNCER else everything
    assert [fields[b"id"].decode() for fields in page.events] == [str(one.id) for one in due]
    places = frozenset(place for place, one in enumerate(everything) if one not in due)
    assert (page.there, page.size, page.examined) == (places, len(everything), len(everything))


async def test_a_key_that_another_lead_has_now_refuses_a_lead_and_no_other(
    handlers: Handlers, database: Database
) -> None:
    made, bystander = lead_created(), lead_created()
    moved = lead_updated(made.subject, email="moved@example.com")
    await happen(handlers, made, moved, bystander)
    before = {row["id"]: row for row in await leads_table(database)}
    await lose_leads(database)
    newcomer = lead_created(lead_fields(email="moved@example.com"))
    await happen(handlers, newcomer)

    refused, back, moved_again = await replay(handlers, made, bystander, moved)
    assert back.status is OutcomeStatus.CREATED
    for outcome in (refused, moved_again):
        assert (outcome.status, outcome.repeated) == (OutcomeStatus.DUPLICATE, False)
        assert body(outcome) == {"field": "email", "leadId": newcomer.subject}
    after = {row["id"]: row for row in await leads_table(database)}
    assert after.keys() == {UUID(newcomer.subject), UUID(bystander.subject)}
    assert after[UUID(bystander.subject)] == before[UUID(bystander.subject)]


@pytest.mark.parametrize("is_lost", [True, False])
async def test_a_live_change_finds_the_lead_as_it_was(
    *, is_lost: bool, handlers: Handlers, database: Database
) -> None:
    external_id = new_id()
    made = lead_created(lead_fields(external_id=external_id, city="London"))
    first = lead_updated(made.subject, city="Rome")
    await happen(handlers, made)
    backup = await leads_table(database)
    await happen(handlers, first)
    [before] = await leads_table(database)
    if is_lost:
        await lose_leads(database)
    else:
        await fall_behind(database, backup)
    second = lead_updated(made.subject, state="Kent", expected_version=2)
    second = replace(second, partition_key=str(external_id))
    assert (await handlers.one(second)).status is OutcomeStatus.UPDATED
    third = lead_upserted(external_id, email=before["email"], country="Italy")
    assert (await handlers.one(third)).status is OutcomeStatus.UPDATED
    [after] = await leads_table(database)
    assert after == before | {
        name: after[name]
        for name in ("state", "country", "first_name", "last_name", "edited_fields")
        if name in after
    } | {"version": 4, "updated_at": after["updated_at"], "search_text": after["search_text"]}
    assert (after["city"], after["state"], after["country"]) == ("Rome", "Kent", "Italy")
    for event in (made, first, second, third):
        await lose_leads(database)
        await replay(handlers, event)
        assert await leads_table(database) == [after]


async def test_an_upsert_of_a_lead_that_is_behind_changes_what_it_was(
    handlers: Handlers, database: Database
) -> None:
    external_id = new_id()
    made = lead_upserted(external_id, email="ada@example.com", city="London")
    await happen(handlers, made)
    backup = await leads_table(database)
    await happen(handlers, lead_updated(made.subject, city="Rome"))
    await fall_behind(database, backup)
    outcome = await handlers.one(lead_upserted(external_id, email="ada@example.com", state="Kent"))
    lead = body(outcome)
    assert (lead["city"], lead["state"], lead["version"]) == ("Rome", "Kent", 3)


async def test_a_lost_lead_that_is_deleted_stays_deleted(
    handlers: Handlers, database: Database
) -> None:
    made = lead_created(lead_fields(external_id=None))
    changed = lead_updated(made.subject, city="Rome")
    deletion = lead_deleted(made.subject, expected_version=2)
    await happen(handlers, made, changed)
    await lose_leads(database)
    assert (await handlers.one(deletion)).status is OutcomeStatus.DELETED
    [tombstone] = await rows(database, "SELECT version FROM leads.tombstone")
    assert tombstone["version"] == 3
    for outcome in await replay(handlers, made, changed, deletion):
        assert outcome.repeated
    assert await leads_table(database) == []


async def test_what_cannot_come_back_keeps_its_versions(
    handlers: Handlers, database: Database
) -> None:
    made = lead_created()
    changed = lead_updated(made.subject, city="Rome")
    await happen(handlers, made)
    backup = await leads_table(database)
    await happen(handlers, changed)
    async with database.connection() as connection:
        await connection.execute("DELETE FROM leads.event WHERE outcome = 'created'")
    await fall_behind(database, backup)
    [refused] = await replay(handlers, changed)
    assert (refused.status, refused.repeated) == (OutcomeStatus.FAILED, False)
    assert body(refused) == {"reason": "archive-incomplete"}
    assert await leads_table(database) == backup
    live = await handlers.one(lead_updated(made.subject, city="Oslo"))
    assert body(live)["version"] == 3


async def test_archived_data_that_are_no_events_park_the_event(
    handlers: Handlers, database: Database
) -> None:
    made = lead_created()
    await happen(handlers, made)
    async with database.connection() as connection:
        await connection.execute("""UPDATE leads.event SET data = data || '{"lead": {}}'""")
    await lose_leads(database)
    with pytest.raises(PermanentError) as error:
        await replay(handlers, made)
    assert error.value.code == "invalid-data"


async def test_a_lead_that_came_back_is_news_once(
    handlers: Handlers, redis: Redis, database: Database
) -> None:
    made = lead_created()
    changed = lead_updated(made.subject, city="Rome")
    await happen(handlers, made, changed)
    await lose_leads(database)
    await redis.delete(catalog.CHANGES)
    await replay(handlers, changed, made, changed)
    [news] = entries_of(await redis.xrange(catalog.CHANGES))
    told = orjson.loads(news.fields[b"data"])
    assert (told["change"], told["leadVersion"]) == ("created", 2)
