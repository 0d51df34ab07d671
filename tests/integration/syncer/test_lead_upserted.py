"""lead-upserted events change the lead with an externalId, or else make it."""

import asyncio
from dataclasses import replace
from uuid import UUID, uuid4

import orjson

from shared.events.envelope import new_id
from shared.events.outcome import Outcome, OutcomeStatus
from shared.storage.pool import Database
from tests.integration.syncer.conftest import (
    Asker,
    Handlers,
    StartSyncer,
    leads_table,
    lose_leads,
    rows,
)
from tests.support.builders import lead_created, lead_fields, lead_updated, lead_upserted


async def test_a_lead_is_made_and_then_changed(handlers: Handlers) -> None:
    external_id = uuid4()
    made = lead_upserted(external_id, email="ada@example.com", city="London", phone="0123456789")
    changed = lead_upserted(external_id, email="ada@example.com", city="Rome")
    first, second = await handlers.handle(made, changed)

    assert (first.status, second.status) == (OutcomeStatus.CREATED, OutcomeStatus.UPDATED)
    lead, later = orjson.loads(first.body), orjson.loads(second.body)
    assert (lead["externalId"], lead["source"], lead["version"]) == (str(external_id), "manual", 1)
    assert later == lead | {"city": "Rome", "version": 2, "updatedAt": later["updatedAt"]}
    assert later["updatedAt"] >= lead["updatedAt"]
    assert await handlers.handle(made, changed) == [
        Outcome(OutcomeStatus.CREATED, second.body, repeated=True),
        replace(second, repeated=True),
    ]


async def test_the_order_is_the_streams_whatever_the_e_mail_addresses(handlers: Handlers) -> None:
    external_id = uuid4()
    emails = ["m@example.com", "z@example.com", "a@example.com"]
    outcomes = await handlers.handle(*(lead_upserted(external_id, email=email) for email in emails))

    versions = [(body["email"], body["version"]) for body in map(_body, outcomes)]
    assert versions == [("m@example.com", 1), ("z@example.com", 2), ("a@example.com", 3)]


async def test_a_lead_is_not_changed_for_having_the_external_id_as_its_id(
    handlers: Handlers, database: Database
) -> None:
    lead_id = UUID(str(_body(await handlers.one(lead_created()))["id"]))
    before = await leads_table(database)
    event = lead_upserted(lead_id, email="namesake@example.com")
    for outcome in (await handlers.one(event), await handlers.one(event)):
        assert outcome.status is OutcomeStatus.DUPLICATE
        assert _body(outcome) == {"field": "externalId", "leadId": str(lead_id)}
    assert await leads_table(database) == before

    # Unless it has it as its externalId too.
    await handlers.one(lead_updated(lead_id, external_id=lead_id))
    outcome = await handlers.one(lead_upserted(lead_id, email="namesake@example.com"))
    assert (outcome.status, _body(outcome)["id"]) == (OutcomeStatus.UPDATED, str(lead_id))


async def test_another_leads_e_mail_address_is_not_to_be_had(
    handlers: Handlers, database: Database
) -> None:
    lead = lead_fields()
    other = lead_created(lead)
    await handlers.one(other)
    external_id = uuid4()
    mine = lead_upserted(external_id, email="mine@example.com")
    await handlers.one(mine)
    for event in (
        lead_upserted(uuid4(), email=lead.email),
        lead_upserted(external_id, email=lead.email),
    ):
        outcome = await handlers.one(event)
        assert outcome.status is OutcomeStatus.DUPLICATE
        assert _body(outcome) == {"field": "email", "leadId": other.subject}
        assert _body(await handlers.one(event)) == _body(outcome)
    subjects = await rows(database, "SELECT subject FROM leads.event ORDER BY recorded_at")
    assert subjects[-1]["subject"] == mine.subject


async def test_a_source_leaves_alone_what_a_person_edited(handlers: Handlers) -> None:
    external_id = uuid4()
    email = "ada@example.com"
    made = lead_upserted(external_id, by="import", email=email, city="London", state="Kent")
    await handlers.one(made)
    await handlers.one(lead_updated(made.subject, city="Rome", phone=None, cell="0123456789"))
    offer = lead_upserted(
        external_id, by="import", email=email, city="Oslo", state="Essex", cell="9876543210"
    )
    lead = _body(await handlers.one(offer))

    assert (lead["city"], lead["state"], lead["cell"]) == ("Rome", "Essex", "0123456789")
    by_person = _body(await handlers.one(lead_upserted(external_id, email=email, city="Bath")))
    assert by_person["city"] == "Bath"


async def test_of_racing_upserts_one_makes_the_lead(
    start_syncer: StartSyncer, asker: Asker, database: Database
) -> None:
    external_id = uuid4()
    racers = [
        lead_upserted(external_id, email="ada@example.com", city=f"City {number}")
        for number in range(8)
    ]
    async with start_syncer(), start_syncer():
        outcomes = await asker.ask(racers)
    statuses = [outcome.status for outcome in outcomes]
    assert statuses.count(OutcomeStatus.CREATED) == 1
    assert statuses.count(OutcomeStatus.UPDATED) == 7
    [lead] = await leads_table(database)
    assert lead["version"] == 8


async def test_an_id_that_belongs_to_another_wish_is_refused(handlers: Handlers) -> None:
    event_id, external_id = new_id(), uuid4()
    await handlers.one(lead_upserted(external_id, event_id=event_id, email="ada@example.com"))
    other = lead_upserted(external_id, event_id=event_id, email="grace@example.com")

    assert (await handlers.one(other)).status is OutcomeStatus.KEY_REUSED


async def test_a_replay_makes_the_lead_again_as_it_was(
    handlers: Handlers, database: Database
) -> None:
    external_id = uuid4()
    history = [
        lead_upserted(external_id, email="ada@example.com", city="London"),
        lead_upserted(external_id, email="ada@example.com", city="London"),
        lead_upserted(external_id, email="ada@example.com", by="import", state="Kent"),
        lead_upserted(external_id, email="lovelace@example.com", city="Rome"),
    ]
    for event in history:
        await handlers.one(event)
    before = await leads_table(database)
    await lose_leads(database)
    outcomes = [await handlers.one(replace(event, replay_id="replay")) for event in history]

    assert await leads_table(database) == before
    # The first brought back all that the lead was.
    assert [outcome.repeated for outcome in outcomes] == [False, True, True, True]
    assert all(
        outcome.repeated
        for outcome in await asyncio.gather(
            *(handlers.one(replace(event, replay_id="again")) for event in history)
        )
    )
    assert await leads_table(database) == before


def _body(outcome: Outcome) -> dict[str, object]:
    decoded: dict[str, object] = orjson.loads(outcome.body)
    return decoded
