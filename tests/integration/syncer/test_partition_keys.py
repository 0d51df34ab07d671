"""A lead's partition key is the one it was made with, and events under another are sent on."""

from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from shared.cache.lead_cache import LeadCache
from shared.events.data import LeadDeleted, LeadUpdated, LeadUpserted
from shared.events.envelope import Event, new_id
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.lead_document import LeadRepository
from shared.storage.pool import Database
from shared.streams.codec import decode
from shared.streams.publisher import add_events
from shared.streams.replays.tally import ReplayResult, read_tally
from tests.integration.syncer.conftest import (
    Asker,
    Handlers,
    StartSyncer,
    body,
    created,
    leads_table,
    rows,
)
from tests.support.builders import (
    lead_created,
    lead_deleted,
    lead_fields,
    lead_updated,
    lead_upserted,
)
from tests.support.eventually import eventually
from tests.support.partitions import lead_entries

FORWARDED = Outcome(OutcomeStatus.FORWARDED, answered=False)


async def test_the_key_stays_whatever_becomes_of_the_external_id(
    handlers: Handlers, database: Database, cache: LeadCache
) -> None:
    first, second = uuid4(), uuid4()
    lead_id = await created(handlers, external_id=first)
    for external_id, kept in ((second, first), (None, first), (first, None), (second, first)):
        await handlers.one(lead_updated(lead_id, external_id=external_id))
        assert await _keys(database, lead_id) == (first, kept)
        cached = await cache.get(lead_id)
        assert cached is not None
        assert cached.moved_key == (None if kept is None else str(kept))

    # Its first externalId is free, and who gets it has the same key.
    another = await created(handlers, external_id=first)
    assert await _keys(database, another) == (first, None)
    moved = await LeadRepository(database).moved_keys([first, second])
    assert moved == {second: str(first)}


async def test_a_lead_made_without_an_external_id_keeps_its_id_as_its_key(
    handlers: Handlers, database: Database
) -> None:
    lead_id = await created(handlers, external_id=None)
    for external_id, kept in ((uuid4(), lead_id), (None, None)):
        await handlers.one(lead_updated(lead_id, external_id=external_id))
        assert await _keys(database, lead_id) == (lead_id, kept)


async def test_what_does_not_change_the_external_id_leaves_the_key(
    handlers: Handlers, database: Database
) -> None:
    lead_id = await created(handlers, external_id=(first := uuid4()))
    await handlers.one(lead_updated(lead_id, external_id=(second := uuid4())))
    await handlers.one(lead_updated(lead_id, city="Rome"))
    await handlers.one(lead_upserted(second, email="ada@example.com"))
    assert await _keys(database, lead_id) == (first, first)


def _write(type_: str, lead_id: UUID, external_id: UUID) -> Event:
    match type_:
        case LeadUpdated.type:
            return lead_updated(lead_id, city="Rome")
        case LeadDeleted.type:
            return lead_deleted(lead_id)
        case _:
            return lead_upserted(external_id, email="ada@example.com")


@pytest.mark.parametrize("type_", [LeadUpdated.type, LeadDeleted.type, LeadUpserted.type])
async def test_an_event_under_another_key_goes_to_its_leads(
    type_: str, handlers: Handlers, database: Database, redis: Redis
) -> None:
    key, external_id = uuid4(), uuid4()
    lead_id = await created(handlers, external_id=key)
    await handlers.one(lead_updated(lead_id, external_id=external_id))
    before = await leads_table(database)
    event = replace(
        _write(type_, lead_id, external_id),
        partition_key=str(external_id),
        reply_to="reply:api:1",
        correlation_id="a request",
        attempt=2,
    )

    assert await handlers.one(event) == FORWARDED
    assert await leads_table(database) == before
    assert await rows(database, "SELECT FROM leads.event WHERE id = $1", event.id) == []
    [entry] = await lead_entries(redis)
    sent_on = decode(entry.fields)
    assert sent_on == replace(event, partition_key=str(key))

    ended = await handlers.one(sent_on)
    assert ended.status in {OutcomeStatus.UPDATED, OutcomeStatus.DELETED}
    # A copy of it under the wrong key is known by now.
    again = await handlers.one(event)
    assert (again.status, again.repeated) == (ended.status, True)
    assert len(await lead_entries(redis)) == 1


async def test_an_upsert_of_a_lead_that_is_gone_goes_to_the_key_of_the_new_one(
    handlers: Handlers, redis: Redis
) -> None:
    external_id = uuid4()
    event = replace(lead_upserted(external_id, email="ada@example.com"), partition_key=str(uuid4()))
    assert await handlers.one(event) == FORWARDED
    [entry] = await lead_entries(redis)
    assert decode(entry.fields).key == str(external_id)
    assert (await handlers.one(decode(entry.fields))).status is OutcomeStatus.CREATED


async def test_an_event_that_is_sent_on_is_answered_and_counted_once(
    start_syncer: StartSyncer, asker: Asker, redis: Redis
) -> None:
    external_id, replay_id = uuid4(), str(new_id())
    async with start_syncer():
        [made] = await asker.ask([lead_created(lead_fields(external_id=external_id))])
        # By the lead's id, which is not its key.
        [changed] = await asker.ask([lead_updated(body(made)["id"], city="Rome")])
        assert (changed.status, body(changed)["city"]) == (OutcomeStatus.UPDATED, "Rome")

        replayed = replace(lead_updated(body(made)["id"], city="Oslo"), replay_id=replay_id)
        await add_events(redis, [replayed])

        async def is_counted() -> bool:
            return bool(await read_tally(redis, replay_id))

        await eventually(is_counted)
    assert await read_tally(redis, replay_id) == {ReplayResult.APPLIED: 1}


async def _keys(database: Database, lead_id: UUID) -> tuple[UUID, UUID | None]:
    """Return a lead's partition key, and the one that is kept beside its externalId and id."""
    [row] = await rows(
        database,
        "SELECT leads.partition_key(lead) AS key, partition_key FROM leads.lead WHERE id = $1",
        lead_id,
    )
    return row["key"], row["partition_key"]
