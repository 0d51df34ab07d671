"""lead-deleted events end leads, and no event brings them back."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import orjson
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from shared.cache.lead_cache import PREFIX, LeadCache
from shared.domain.errors import TransientError, UnavailableError
from shared.events import catalog
from shared.events.envelope import now
from shared.events.outcome import Outcome, OutcomeStatus
from shared.settings import CacheSettings, StreamsSettings
from shared.storage.lead_document import LeadDocument
from shared.storage.pool import Database
from shared.streams.codec import entries_of
from shared.streams.publisher import add_events
from tests.integration.syncer.conftest import Handlers, OpenHandlers, leads_table, rows
from tests.support.builders import lead_created, lead_deleted, lead_updated, lead_upserted
from tests.support.eventually import eventually
from tests.support.summaries import Says, open_summarizer, requested
from tests.support.traces import kept_in_postgres, kept_in_redis, someone


async def test_readers_get_the_change_and_an_older_version_is_not_cached_any_more(
    handlers: Handlers, cache: LeadCache, redis: Redis, database: Database
) -> None:
    lead = orjson.loads((await handlers.one(lead_created())).body)
    stale = await _document(cache, lead["id"])
    await handlers.one(lead_deleted(lead["id"], expected_version=1))
    await cache.put([stale])

    assert await cache.get(UUID(lead["id"])) is None
    assert await cache.get_by_external_id(UUID(lead["externalId"])) is None
    *_, announced = entries_of(await redis.xrange(catalog.CHANGES))
    assert orjson.loads(announced.fields[b"data"]) == {
        "leadId": lead["id"],
        "leadVersion": 2,
        "change": "deleted",
    }
    assert await leads_table(database) == []


async def test_a_deletion_can_miss(handlers: Handlers) -> None:
    made = lead_created()
    await handlers.one(made)
    mismatch = await handlers.one(lead_deleted(made.subject, expected_version=2))
    deletion, second = lead_deleted(made.subject), lead_deleted(made.subject)
    first, late = await handlers.handle(deletion, second)
    missing = await handlers.one(lead_deleted(uuid4()))
    assert mismatch == Outcome(OutcomeStatus.VERSION_MISMATCH, b'{"version":1}')
    assert first.status is OutcomeStatus.DELETED
    assert late.status is missing.status is OutcomeStatus.NOT_FOUND
    again = await handlers.one(deletion)
    assert (again.status, again.repeated) == (OutcomeStatus.DELETED, True)
    assert orjson.loads(again.body) == {"version": 2}


async def test_what_was_committed_and_not_announced_is_announced_the_next_time(
    open_handlers: OpenHandlers, cache: LeadCache, redis: Redis
) -> None:
    nowhere = CacheSettings(cache_redis_url=SecretStr("redis://127.0.0.1:9"))
    made = lead_created(someone())
    await add_events(redis, [made])
    async with open_handlers() as well, open_handlers(cache=nowhere) as cut_off:
        await well.one(made)
        event = lead_deleted(made.subject)
        with pytest.raises(UnavailableError):
            await cut_off.one(event)
        assert await kept_in_redis(redis) != []
        await well.one(event)
    assert await cache.get(UUID(made.subject)) is None
    assert await kept_in_redis(redis) == []


async def test_no_replay_brings_a_deleted_lead_back(handlers: Handlers, database: Database) -> None:
    made = lead_created(someone())
    changed = lead_updated(made.subject, city="Rome")
    for event in (made, changed, lead_deleted(made.subject)):
        await handlers.one(event)
    for event in (made, changed):
        outcome = await handlers.one(replace(event, replay_id="replay"))
        assert (outcome.status, outcome.repeated) == (OutcomeStatus.NOT_FOUND, True)
    # Not even one to a database that has lost track of the event.
    async with database.connection() as connection:
        await connection.execute("DELETE FROM leads.event")
    outcome = await handlers.one(replace(made, replay_id="replay"))
    assert (outcome.status, outcome.repeated) == (OutcomeStatus.NOT_FOUND, True)
    assert await leads_table(database) == []
    assert await kept_in_postgres(database) == []


@pytest.mark.parametrize("replayed", [0, 1])
async def test_a_replay_deletes_a_lead_that_came_back(
    replayed: int, handlers: Handlers, database: Database
) -> None:
    made = lead_created()
    deletion = lead_deleted(made.subject)
    await handlers.one(made)
    async with database.connection() as connection:
        await connection.execute("CREATE TABLE backup AS SELECT id, email FROM leads.lead")
    await handlers.one(deletion)
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO leads.lead (id, first_name, last_name, email, email_key, source, "
            "created_at, updated_at) "
            "SELECT id, 'Ada', 'King', email, email, 'manual', now(), now() FROM backup"
        )
    event = replace((made, deletion)[replayed], replay_id="replay")
    outcome = await handlers.one(event)
    assert (outcome.status, outcome.repeated) == (OutcomeStatus.DELETED, False)
    assert await leads_table(database) == []
    assert (await handlers.one(event)).repeated


async def test_only_a_person_may_make_a_deleted_lead_anew(
    handlers: Handlers, database: Database
) -> None:
    lead = someone()
    made = lead_created(lead, by="randomuser")
    await handlers.one(made)
    await handlers.one(lead_deleted(made.subject))
    for offer in (
        lead_created(lead, by="randomuser"),
        lead_created(lead, by="import"),
        lead_created(someone(external_id=None), by="import"),
        lead_upserted(lead.external_id or uuid4(), by="import", email="other@example.com"),
    ):
        assert (await handlers.one(offer)).status is OutcomeStatus.ERASED
    replayed = lead_created(lead, replay_id="replay", time=now() - timedelta(minutes=1))
    assert (await handlers.one(replayed)).status is OutcomeStatus.ERASED
    by_person = lead_created(lead)
    assert (await handlers.one(by_person)).status is OutcomeStatus.CREATED
    [stone] = await rows(database, "SELECT * FROM leads.tombstone")
    assert (stone["external_id_hash"], stone["email_key_hash"]) == (None, None)
    # The new lead is a lead like others, the old one stays where it is.
    assert (await handlers.one(replace(made, replay_id="replay"))).repeated
    assert [row["id"] for row in await leads_table(database)] == [UUID(by_person.subject)]


async def test_a_creation_that_waits_for_a_deletion_does_not_undo_it(
    handlers: Handlers, database: Database
) -> None:
    lead = someone()
    made = lead_created(lead, by="randomuser")
    await handlers.one(made)
    async with database.transaction() as deleting:
        await deleting.execute(
            "INSERT INTO leads.tombstone (lead_id, email_key_hash, version, deleted_at) "
            "SELECT id, sha256(convert_to(email_key, 'UTF8')), 2, now() FROM leads.lead"
        )
        await deleting.execute("DELETE FROM leads.lead")
        offer = lead_created(lead, by="randomuser")
        creating = asyncio.create_task(handlers.one(offer), name="creating")
        await eventually(lambda: _somebody_waits(database))
    with pytest.raises(TransientError):
        await creating
    assert (await handlers.one(offer)).status is OutcomeStatus.ERASED
    assert await leads_table(database) == []


async def test_leads_are_deleted_and_summarised_at_once(
    handlers: Handlers, database: Database, redis: Redis, streams_settings: StreamsSettings
) -> None:
    made = [lead_created() for _ in range(20)]
    await handlers.handle(*made)
    says = Says(delay=timedelta(milliseconds=20))
    async with (
        open_summarizer(database, redis, streams_settings, says) as summarizer,
        asyncio.TaskGroup() as tasks,
    ):
        asking = [
            tasks.create_task(summarizer.ask(requested(UUID(event.subject))), name="ask")
            for event in made
        ]
        await eventually(lambda: _some_are_asked(says))
        deleted = await handlers.handle(*(lead_deleted(event.subject) for event in made))
    ends = {OutcomeStatus.SUMMARISED, OutcomeStatus.NOT_FOUND}
    assert {task.result().status for task in asking} <= ends
    assert {one.status for one in deleted} == {OutcomeStatus.DELETED}
    assert await rows(database, "SELECT 1 FROM leads.summary") == []
    for event in made:
        assert await redis.exists(f"{PREFIX}lead:{event.subject}")


async def _some_are_asked(says: Says) -> bool:
    return says.calls > 0


async def _somebody_waits(database: Database) -> bool:
    return bool(
        await rows(database, "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'transactionid'")
    )


async def _document(cache: LeadCache, lead_id: str) -> LeadDocument:
    cached = await cache.get(UUID(lead_id))
    assert cached is not None
    return LeadDocument(
        id=UUID(lead_id),
        external_id=None,
        version=cached.version,
        partition_key=UUID(lead_id),
        json=cached.json,
    )
