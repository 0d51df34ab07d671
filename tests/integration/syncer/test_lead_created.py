"""lead-created events become leads: once each, and never two for one person."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from shared.cache.lead_cache import LeadCache, open_cache
from shared.events import catalog
from shared.events.envelope import new_id, now
from shared.events.outcome import OutcomeStatus
from shared.settings import CacheSettings
from shared.storage.inbox import EventStore
from shared.storage.lead_document import LeadRepository
from shared.storage.pool import Database
from shared.streams.codec import entries_of
from shared.streams.publisher import add_events
from shared.streams.replays.tally import ReplayResult, read_tally
from tests.integration.syncer.conftest import Asker, Handlers, StartSyncer, rows
from tests.support.builders import lead_created, lead_fields
from tests.support.eventually import eventually


async def test_a_lead_is_stored_cached_answered_and_announced(
    start_syncer: StartSyncer,
    asker: Asker,
    database: Database,
    redis: Redis,
    cache_settings: CacheSettings,
    redis_url: str,
) -> None:
    lead = lead_fields(picture="https://example.com/ada.jpg", first_name="Ž")
    event = lead_created(lead, reply_to=asker.address)
    async with start_syncer():
        [outcome] = await asker.ask([event])
    assert outcome.status == OutcomeStatus.CREATED
    body = orjson.loads(outcome.body)
    wanted = orjson.loads(lead.model_dump_json())
    assert {name: body[name] for name in wanted} == wanted
    assert (body["id"], body["version"], body["status"]) == (event.subject, 1, "new")
    [applied] = await rows(database, "SELECT applied_at FROM leads.event")
    stamp = applied["applied_at"].isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert (body["createdAt"], body["updatedAt"]) == (stamp, stamp)
    stored = await LeadRepository(database).get(UUID(event.subject))
    assert stored is not None
    assert stored.json == outcome.body
    async with open_cache(cache_settings, default_url=redis_url) as cache:
        for cached in (
            await cache.get(stored.id),
            await cache.get_by_external_id(UUID(body["externalId"])),
        ):
            assert cached is not None
            assert cached.json == outcome.body
    [announced] = entries_of(await redis.xrange(catalog.CHANGES))
    assert orjson.loads(announced.fields[b"data"]) == {
        "leadId": event.subject,
        "leadVersion": 1,
        "change": "created",
    }


async def test_the_same_event_twice_is_one_lead_and_one_answer(
    start_syncer: StartSyncer, asker: Asker, database: Database
) -> None:
    event = lead_created(reply_to=asker.address)
    async with start_syncer():
        first = await asker.ask([event])
        assert await asker.ask([event, event]) == first * 2
    assert await _count(database, "lead") == 1


async def test_the_same_event_with_another_payload_is_refused(
    start_syncer: StartSyncer, asker: Asker
) -> None:
    event_id = new_id()
    async with start_syncer():
        await asker.ask([lead_created(event_id=event_id, reply_to=asker.address)])
        [outcome] = await asker.ask([lead_created(event_id=event_id, reply_to=asker.address)])
    assert outcome.status == OutcomeStatus.KEY_REUSED


async def test_duplicates_name_the_field_and_the_lead_in_the_way(
    start_syncer: StartSyncer, asker: Asker, database: Database
) -> None:
    lead = lead_fields(email="Grace.Hopper@example.com")
    first = lead_created(lead, reply_to=asker.address)
    other_case = lead_created(lead_fields(email="GRACE.HOPPER@EXAMPLE.com"), reply_to=asker.address)
    same_external_id = lead_created(
        lead_fields(external_id=lead.external_id), reply_to=asker.address
    )
    async with start_syncer():
        await asker.ask([first])
        by_email, by_external_id = await asker.ask([other_case, same_external_id])
    assert by_email.status == by_external_id.status == OutcomeStatus.DUPLICATE
    assert orjson.loads(by_email.body) == {"field": "email", "leadId": first.subject}
    assert orjson.loads(by_external_id.body) == {"field": "externalId", "leadId": first.subject}
    [(status, _)] = (await EventStore(database).ends([other_case.id])).values()
    assert status is OutcomeStatus.DUPLICATE


@pytest.mark.parametrize("by", ["manual", "randomuser", "import"])
async def test_an_external_id_is_never_another_leads_id(
    by: str, start_syncer: StartSyncer, asker: Asker, database: Database
) -> None:
    first = lead_created(reply_to=asker.address)
    namesake = lead_created(
        lead_fields(external_id=UUID(first.subject)), by=by, reply_to=asker.address
    )
    bystander = lead_created(reply_to=asker.address)
    async with start_syncer():
        await asker.ask([first])
        refused, made = await asker.ask([namesake, bystander])
        [again] = await asker.ask([namesake])
    assert (refused.status, made.status) == (OutcomeStatus.DUPLICATE, OutcomeStatus.CREATED)
    for outcome in (refused, again):
        assert orjson.loads(outcome.body) == {"field": "externalId", "leadId": first.subject}
    assert await _count(database, "lead") == 2


async def test_a_replay_brings_back_what_vanished_and_changes_nothing_else(
    start_syncer: StartSyncer, asker: Asker, database: Database, redis: Redis
) -> None:
    events = [lead_created(reply_to=asker.address) for _ in range(4)]
    replayed = [replace(event, replay_id="replay-1") for event in events]
    async with start_syncer():
        await asker.ask(events)
        before = await _table(database)
        async with database.connection() as connection:
            await connection.execute(
                "DELETE FROM leads.lead WHERE id = $1", UUID(events[2].subject)
            )
        await add_events(redis, replayed)
        await eventually(lambda: _same(database, before))
        await eventually(lambda: _tallied(redis, "replay-1", applied=1, repeated=3))


async def test_of_racing_creates_one_wins(
    start_syncer: StartSyncer, asker: Asker, database: Database
) -> None:
    racers = [
        lead_created(lead_fields(email=f"racer{key}@example.com"), reply_to=asker.address)
        for _ in range(8)
        for key in range(20)
    ]
    async with start_syncer(), start_syncer():
        outcomes = await asker.ask(racers)
    statuses = [outcome.status for outcome in outcomes]
    assert statuses.count(OutcomeStatus.CREATED) == 20
    assert statuses.count(OutcomeStatus.DUPLICATE) == 140
    assert await _count(database, "lead") == 20


async def test_a_dead_cache_keeps_no_lead_from_being_created(
    start_syncer: StartSyncer, asker: Asker, cache_settings: CacheSettings
) -> None:
    nowhere = cache_settings.model_copy(
        update={"cache_redis_url": SecretStr("redis://127.0.0.1:9")}
    )
    async with start_syncer(cache=nowhere):
        [outcome] = await asker.ask([lead_created(reply_to=asker.address)])
    assert outcome.status == OutcomeStatus.CREATED


@pytest.mark.parametrize(
    ("made", "seconds_ago", "is_cached"),
    [
        ({}, 0, True),
        ({"by": "randomuser"}, 0, True),
        ({"by": "import"}, 0, False),
        ({"replay_id": "r"}, 0, False),
        ({}, 60, False),
    ],
)
async def test_a_new_lead_is_cached_unless_it_is_one_of_many(
    made: dict[str, Any],
    seconds_ago: int,
    *,
    is_cached: bool,
    handlers: Handlers,
    cache: LeadCache,
) -> None:
    event = lead_created(**made, time=now() - timedelta(seconds=seconds_ago))
    assert (await handlers.one(event)).status is OutcomeStatus.CREATED
    assert (await cache.get(UUID(event.subject)) is not None) == is_cached


@pytest.mark.parametrize(
    ("made", "seconds_ago", "is_shown"),
    [
        ({}, 0, True),
        ({}, 60, False),
        ({"by": "import"}, 0, False),
        ({"replay_id": "r"}, 0, False),
        ({"reply_to": "reply:test"}, 60, True),
        ({"reply_to": "reply:test", "expires": now() + timedelta(hours=1)}, 60, True),
        ({"reply_to": "reply:test", "expires": now() - timedelta(seconds=1)}, 60, False),
    ],
)
async def test_a_new_leads_json_is_made_only_for_who_is_to_see_it(
    made: dict[str, Any], seconds_ago: int, *, is_shown: bool, handlers: Handlers
) -> None:
    event = lead_created(**made, time=now() - timedelta(seconds=seconds_ago))
    outcome = await handlers.one(event)
    assert outcome.status is OutcomeStatus.CREATED
    assert (outcome.answered, outcome.body != b"") == (is_shown, is_shown)


async def _count(database: Database, table: str) -> int:
    async with database.connection() as connection:
        return int(await connection.fetchval(f"SELECT count(*) FROM leads.{table}"))  # noqa: S608


async def _table(database: Database) -> list[tuple[object, ...]]:
    async with database.connection() as connection:
        return [
            tuple(row) for row in await connection.fetch("SELECT * FROM leads.lead ORDER BY id")
        ]


async def _same(database: Database, before: list[tuple[object, ...]]) -> bool:
    return await _table(database) == before


async def _tallied(redis: Redis, replay_id: str, *, applied: int, repeated: int) -> bool:
    return await read_tally(redis, replay_id) == {
        ReplayResult.APPLIED: applied,
        ReplayResult.ALREADY_APPLIED: repeated,
    }
