"""lead-updated events that race, come twice or are replayed: each counts once, in order."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import orjson
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from shared.cache.lead_cache import LeadCache
from shared.domain.errors import UnavailableError
from shared.events import catalog
from shared.events.envelope import new_id
from shared.events.outcome import OutcomeStatus
from shared.settings import CacheSettings
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
)
from tests.support.builders import lead_created, lead_updated


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
