"""lead-updated events change leads, and never what is another's."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from redis.asyncio import Redis

from shared.cache.lead_cache import LeadCache
from shared.domain.errors import PermanentError
from shared.events import catalog
from shared.events.envelope import new_id, now
from shared.events.outcome import Outcome, OutcomeStatus
from shared.settings import StreamsSettings
from shared.storage.dead_letters import DeadLetterRepository
from shared.storage.pool import Database
from shared.streams.codec import entries_of
from shared.streams.ordering.partition import accepted_at
from tests.integration.syncer.conftest import Handlers, body, created, rows
from tests.support.builders import lead_created, lead_updated, lead_upserted, letter_of
from tests.support.summaries import Says, open_summarizer, requested

APPLIED = "SELECT applied_at FROM leads.event WHERE id = $1"


async def test_given_fields_change_and_the_others_stay(
    handlers: Handlers, database: Database, cache: LeadCache, redis: Redis
) -> None:
    before = body(await handlers.one(lead_created()))
    event = lead_updated(
        before["id"],
        city="Paris",
        phone=None,
        email="New@Example.com",
        status="contacted",
        time=now() + timedelta(minutes=1),
    )
    outcome = await handlers.one(event)

    assert outcome.status is OutcomeStatus.UPDATED
    [stamp] = [row["applied_at"] for row in await rows(database, APPLIED, event.id)]
    changes = {
        "city": "Paris",
        "phone": None,
        "email": "New@example.com",
        "status": "contacted",
        "updatedAt": stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "version": 2,
    }
    assert body(outcome) == before | changes
    for cached in (
        await cache.get(UUID(before["id"])),
        await cache.get_by_external_id(UUID(before["externalId"])),
    ):
        assert cached is not None
        assert cached.json == outcome.body
    *_, announced = entries_of(await redis.xrange(catalog.CHANGES))
    assert orjson.loads(announced.fields[b"data"]) == {
        "leadId": before["id"],
        "leadVersion": 2,
        "change": "updated",
    }


async def test_what_changes_nothing_makes_no_version(handlers: Handlers, redis: Redis) -> None:
    lead_id = await created(handlers, city="London")
    announced = await redis.xlen(catalog.CHANGES)
    outcome = await handlers.one(lead_updated(lead_id, city="London"))

    assert outcome.status is OutcomeStatus.UPDATED
    assert body(outcome)["version"] == 1
    assert await redis.xlen(catalog.CHANGES) == announced


async def test_a_lead_in_another_version_stays_as_it_is(handlers: Handlers) -> None:
    lead_id = await created(handlers)
    assert (await handlers.one(lead_updated(lead_id, city="Rome", expected_version=1))).status == (
        OutcomeStatus.UPDATED
    )
    outcome = await handlers.one(lead_updated(lead_id, city="Oslo", expected_version=1))

    assert outcome == Outcome(OutcomeStatus.VERSION_MISMATCH, b'{"version":2}')


async def test_a_lead_that_is_not_there_is_not_found(
    handlers: Handlers, database: Database
) -> None:
    event = lead_updated(uuid4(), city="Rome")
    outcome = await handlers.one(event)

    assert outcome.status is OutcomeStatus.NOT_FOUND
    assert await handlers.one(event) == replace(outcome, repeated=True)
    [kept] = await rows(database, "SELECT data::text, outcome FROM leads.event")
    assert kept == {"data": "{}", "outcome": "not-found"}


async def test_what_comes_after_a_parked_creation_is_parked_behind_it(
    handlers: Handlers, database: Database
) -> None:
    made = lead_created()
    await DeadLetterRepository(database).add_letter(letter_of(made))
    with pytest.raises(PermanentError) as refused:
        await handlers.one(lead_updated(made.subject, city="Rome"))
    assert refused.value.code == "behind-parked"
    assert (await handlers.one(lead_updated(new_id(), city="Rome"))).status is (
        OutcomeStatus.NOT_FOUND
    )


@pytest.mark.parametrize("is_upsert", [False, True])
async def test_a_letter_put_back_sets_only_what_nothing_later_has_set(
    is_upsert: bool,  # noqa: FBT001 (a parameter)
    handlers: Handlers,
) -> None:
    external_id = uuid4()
    lead_id = await created(handlers, external_id=external_id)
    await handlers.one(lead_updated(lead_id, city="Rome", accepted=place(3)))
    changes: dict[str, Any] = {"city": "Oslo", "state": "Viken"}
    late, overtaken = (
        lead_upserted(external_id, email="ada@example.com", **given)
        if is_upsert
        else lead_updated(lead_id, **given)
        for given in (changes, dict[str, Any](city="Oslo"))
    )
    put_back = {"only_group": catalog.SYNCER, "accepted": place(2)}
    lead = body(await handlers.one(replace(late, **put_back)))  # type: ignore[arg-type]
    assert (lead["city"], lead["state"]) == ("Rome", "Viken")

    if not is_upsert:  # an upsert has more to say: names and the address
        outcome = await handlers.one(replace(overtaken, **put_back))  # type: ignore[arg-type]
        assert outcome.status is OutcomeStatus.OVERTAKEN
    # As it comes, in its turn, everything counts.
    lead = body(await handlers.one(lead_updated(lead_id, city="Bern", accepted=place(4))))
    assert lead["city"] == "Bern"


def place(number: int) -> str:
    return accepted_at(1, f"{number}-0")


@pytest.mark.parametrize("field", ["email", "externalId"])
async def test_another_leads_keys_are_not_to_be_had(handlers: Handlers, field: str) -> None:
    other = body(await handlers.one(lead_created()))
    lead_id = await created(handlers)
    name = {"email": "email", "externalId": "external_id"}[field]
    taken: dict[str, Any] = {name: other[field]}
    outcome = await handlers.one(lead_updated(lead_id, city="Rome", **taken))

    assert outcome.status is OutcomeStatus.DUPLICATE
    assert body(outcome) == {"field": field, "leadId": other["id"]}


async def test_an_external_id_is_no_other_leads_id_but_may_be_its_own(handlers: Handlers) -> None:
    other, lead_id = await created(handlers), await created(handlers)
    refused = await handlers.one(lead_updated(lead_id, city="Rome", external_id=other))
    changed = await handlers.one(lead_updated(lead_id, external_id=lead_id))

    assert refused.status is OutcomeStatus.DUPLICATE
    assert body(refused) == {"field": "externalId", "leadId": str(other)}
    assert changed.status is OutcomeStatus.UPDATED
    assert (body(changed)["externalId"], body(changed)["city"]) == (str(lead_id), "London")


async def test_a_lead_is_not_served_under_an_external_id_that_it_no_longer_has(
    handlers: Handlers, cache: LeadCache
) -> None:
    old, new = uuid4(), uuid4()
    lead_id = await created(handlers, external_id=old)
    outcome = await handlers.one(lead_updated(lead_id, external_id=new))

    assert await cache.get_by_external_id(old) is None
    cached = await cache.get_by_external_id(new)
    assert cached is not None
    assert cached.json == outcome.body


async def test_a_summary_is_stale_while_it_was_written_from_something_else(
    handlers: Handlers, database: Database, redis: Redis, streams_settings: StreamsSettings
) -> None:
    lead_id = await created(handlers, city="London", phone="020 7946 0958")
    unsummarised = await handlers.one(lead_updated(lead_id, city="Bath"))
    assert body(unsummarised)["summaryStale"] is False
    async with open_summarizer(database, redis, streams_settings, Says()) as summarizer:
        await summarizer.ask(requested(lead_id))
    changes: list[dict[str, Any]] = [
        {"phone": "020 7946 0000"},  # the model only sees whether there is one
        {"city": "Rome"},
        {"dob": "1815-12-10"},
        {"city": "Bath"},
    ]
    changed = [await handlers.one(lead_updated(lead_id, **change)) for change in changes]
    staleness = [body(outcome)["summaryStale"] for outcome in changed]
    assert staleness == [False, True, True, False]
