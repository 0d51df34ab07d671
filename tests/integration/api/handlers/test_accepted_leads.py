"""What was accepted and is not stored yet can be changed and deleted: that waits its turn."""

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from redis.asyncio import Redis

from services.api.storage.requests import MOST_NOTED
from shared.events.data import LeadCreated, LeadDeleted, LeadUpdated, LeadUpserted
from shared.events.envelope import Event
from shared.storage.pool import Database
from shared.streams.codec import decode
from tests.integration.api.conftest import PATIENCE, create
from tests.support.api import OpenApi, RunSyncer
from tests.support.builders import lead_body
from tests.support.eventually import eventually
from tests.support.partitions import lead_entries
from tests.support.stored_leads import store_lead

ASYNC = {"Prefer": "respond-async"}
ROME = {"city": "Rome"}


async def published(redis: Redis) -> list[Event]:
    return [decode(entry.fields) for entry in await lead_entries(redis)]


async def succeeded(api: httpx.AsyncClient, *responses: httpx.Response) -> None:
    """Wait until what was accepted is carried out."""

    async def have_ended() -> bool:
        states = [(await api.get(one.headers["Location"])).json()["status"] for one in responses]
        assert "failed" not in states
        return set(states) == {"succeeded"}

    await eventually(have_ended)


async def accept(api: httpx.AsyncClient, external_id: str, how: str) -> None:
    """Have a lead accepted that is not made."""
    body, headers = lead_body(externalId=external_id), ASYNC if "async" in how else {}
    match how.split(maxsplit=1)[0]:
        case "create":
            response = await api.post("/leads", json=body, headers=headers)
        case "upsert":
            path = f"/leads/by-external-id/{external_id}"
            response = await api.put(path, json=body, headers=headers)
        case mode:
            rows = {"mode": mode.removeprefix("batch-"), "leads": [lead_body(), body]}
            response = await api.post("/leads/batch", json=rows, headers=ASYNC)
            assert [one["status"] for one in response.json()["results"]] == [202, 202]
            return
    assert response.status_code == 202


@pytest.mark.parametrize(
    "how",
    ["create async", "create late", "upsert async", "upsert late", "batch-create", "batch-upsert"],
)
async def test_a_change_and_a_deletion_wait_their_turn(
    how: str, api: httpx.AsyncClient, run_syncer: RunSyncer, redis: Redis
) -> None:
    external_id = str(uuid4())
    await accept(api, external_id, how)
    [made] = [event.data for event in await published(redis) if event.key == external_id]
    assert isinstance(made, LeadCreated | LeadUpserted)
    changed = await api.patch(f"/leads/{external_id}", json=ROME, headers=ASYNC)
    assert changed.status_code == 202
    changed_by_id = await api.patch(f"/leads/{made.lead_id}", json={"state": "Lazio"})
    assert changed_by_id.status_code == 202
    changes = [event for event in await published(redis) if event.type == LeadUpdated.type]
    assert [(event.subject, event.key) for event in changes] == 2 * [
        (str(made.lead_id), external_id)
    ]

    async with run_syncer():
        await succeeded(api, changed, changed_by_id)
        lead = (await api.get(f"/leads/{external_id}")).json()
    assert (lead["city"], lead["state"], lead["version"]) == ("Rome", "Lazio", 3)


async def test_a_lead_that_is_accepted_can_be_deleted(
    api: httpx.AsyncClient, run_syncer: RunSyncer
) -> None:
    external_id = str(uuid4())
    await accept(api, external_id, "create async")
    deleted = await api.delete(f"/leads/{external_id}")
    assert deleted.status_code == 202
    async with run_syncer():
        await succeeded(api, deleted)
        assert (await api.get(f"/leads/{external_id}")).status_code == 404


@pytest.mark.parametrize("how", ["create async", "create late", "batch-upsert"])
async def test_who_reads_it_learns_that_it_is_on_its_way(
    how: str, api: httpx.AsyncClient, run_syncer: RunSyncer, redis: Redis
) -> None:
    external_id = str(uuid4())
    await accept(api, external_id, how)
    [made] = [event.data for event in await published(redis) if event.key == external_id]
    assert isinstance(made, LeadCreated | LeadUpserted)
    for key in (external_id, str(made.lead_id)):
        for response in (
            await api.get(f"/leads/{key}"),
            await api.post(f"/leads/{key}/summary"),
            await api.get(f"/leads/{key}/history"),
        ):
            assert (response.status_code, response.json()["code"]) == (404, "lead-not-stored-yet")
            assert response.headers["Retry-After"] == "2"
            assert response.json()["operation"] == response.headers["Location"]
    operation = await api.get(response.headers["Location"])
    assert operation.json()["status"] == "pending"
    async with run_syncer():
        await succeeded(api, response)
        assert (await api.get(f"/leads/{external_id}")).json()["id"] == str(made.lead_id)


async def test_what_was_accepted_and_refused_is_not_there(
    api: httpx.AsyncClient, run_syncer: RunSyncer
) -> None:
    """A duplicate of another lead's e-mail address."""
    external_id = str(uuid4())
    body = lead_body()
    async with run_syncer():
        for given in (body, body | {"externalId": external_id}):
            response = await api.post("/leads", json=given, headers=ASYNC)

            async def has_ended(location: str = response.headers["Location"]) -> bool:
                return bool((await api.get(location)).json()["status"] != "pending")

            await eventually(has_ended)
        refused = await api.get(f"/leads/{external_id}")
        assert (refused.status_code, refused.json()["code"]) == (404, "lead-not-found")


async def test_what_was_never_accepted_is_not_found_and_costs_no_write(
    api: httpx.AsyncClient, redis: Redis
) -> None:
    for external_id in (uuid4(), uuid4()):
        changed = await api.patch(f"/leads/{external_id}", json=ROME)
        deleted = await api.delete(f"/leads/{external_id}")
        assert (changed.status_code, deleted.status_code) == (404, 404)
        assert changed.json()["code"] == "lead-not-found"
    assert len(await lead_entries(redis)) == 0
    assert await redis.keys("leads:*") == []


@pytest.mark.parametrize(
    ("tags", "version"), [(None, None), ("*", None), ('"1"', 1), ('"3"', 3), ('"2", "1"', 1)]
)
async def test_the_version_that_is_meant_is_held_against_the_lead_in_its_turn(
    tags: str | None, version: int | None, api: httpx.AsyncClient, redis: Redis
) -> None:
    external_id = str(uuid4())
    await accept(api, external_id, "create async")
    headers = ASYNC if tags is None else ASYNC | {"If-Match": tags}
    assert (await api.patch(f"/leads/{external_id}", json=ROME, headers=headers)).status_code == 202
    assert (await api.delete(f"/leads/{external_id}", headers=headers)).status_code == 202
    _, updated, deleted = [event.data for event in await published(redis)]
    assert isinstance(updated, LeadUpdated)
    assert isinstance(deleted, LeadDeleted)
    assert (updated.expected_version, deleted.expected_version) == (version, version)


async def test_of_several_that_are_accepted_the_first_makes_the_lead(
    api: httpx.AsyncClient, redis: Redis, run_syncer: RunSyncer
) -> None:
    external_id = str(uuid4())
    for _ in range(3):
        await accept(api, external_id, "upsert async")
    changed = await api.patch(f"/leads/{external_id}", json=ROME, headers=ASYNC)
    first, *_, last = await published(redis)
    assert last.subject == first.subject
    async with run_syncer():
        await succeeded(api, changed)


async def test_a_lead_that_has_come_and_gone_is_not_waited_for(
    api: httpx.AsyncClient, open_api: OpenApi, run_syncer: RunSyncer, redis: Redis
) -> None:
    moved, gone = str(uuid4()), str(uuid4())
    async with run_syncer(), open_api(create_timeout=PATIENCE) as patient:
        for external_id in (moved, gone):
            made = await api.post("/leads", json=lead_body(externalId=external_id), headers=ASYNC)
            await succeeded(api, made)
        changed = await patient.patch(f"/leads/{moved}", json={"externalId": None})
        deleted = await patient.delete(f"/leads/{gone}")
        assert (changed.status_code, deleted.status_code) == (200, 204)
        for external_id in (moved, gone):
            response = await api.patch(f"/leads/{external_id}", json=ROME)
            assert response.status_code == 404

    # Until another one is accepted.
    for external_id in (moved, gone):
        await accept(api, external_id, "create async")
        creation = (await published(redis))[-1]
        response = await api.patch(f"/leads/{external_id}", json=ROME)
        assert response.status_code == 202
        assert (await published(redis))[-1].subject == creation.subject


async def test_notes_are_bounded_and_end_after_a_day(api: httpx.AsyncClient, redis: Redis) -> None:
    external_id = str(uuid4())
    rows = [lead_body(externalId=external_id)] * (MOST_NOTED + 5)
    await api.post("/leads/batch", json={"mode": "upsert", "leads": rows}, headers=ASYNC)
    keys: list[Any] = await redis.keys("leads:accepted-lead:*")
    assert len(keys) == 1 + len(rows)
    lengths = [await redis.llen(key) for key in keys]
    assert max(lengths) == MOST_NOTED
    for key in keys:
        assert 86_000 < await redis.ttl(key) <= 86_400


class TestKeys:
    """The partition key of each event that the API publishes."""

    @pytest.mark.parametrize("is_cached", [True, False])
    async def test_a_lead_that_has_another_externalid_keeps_its_key(
        self,
        is_cached: bool,  # noqa: FBT001 (a parameter of the test)
        api: httpx.AsyncClient,
        open_api: OpenApi,
        run_syncer: RunSyncer,
        redis: Redis,
    ) -> None:
        first, second = str(uuid4()), str(uuid4())
        async with run_syncer(), open_api(create_timeout=PATIENCE) as patient:
            lead = await create(patient, externalId=first)
            await patient.patch(f"/leads/{first}", json={"externalId": second})
        body = lead_body(externalId=second)
        for method, path, content in (
            ("PATCH", f"/leads/{second}", ROME),
            ("PATCH", f"/leads/{lead['id']}", ROME),
            ("DELETE", f"/leads/{lead['id']}", None),
            ("PUT", f"/leads/by-external-id/{second}", body),
            ("POST", "/leads/batch", {"mode": "upsert", "leads": [body]}),
        ):
            if not is_cached:
                for key in await redis.keys("leads:cache:*"):
                    await redis.delete(key)
            response = await api.request(method, path, json=content, headers=ASYNC)
            assert response.status_code in {202, 207}
            assert (await published(redis))[-1].key == first

    async def test_a_lead_without_one_has_its_id(
        self, api: httpx.AsyncClient, open_api: OpenApi, redis: Redis, run_syncer: RunSyncer
    ) -> None:
        async with run_syncer(), open_api(create_timeout=PATIENCE) as patient:
            lead = await create(patient, externalId=None)
        await api.patch(f"/leads/{lead['id']}", json=ROME, headers=ASYNC)
        await api.post("/leads", json=lead_body(externalId=None), headers=ASYNC)
        for event in await published(redis):
            assert event.key == event.subject

    async def test_new_leads_and_those_stored_before_have_their_externalid(
        self, api: httpx.AsyncClient, redis: Redis, database: Database
    ) -> None:
        stored, external_id = await store_lead(database), str(uuid4())
        await api.patch(f"/leads/{stored.id}", json=ROME, headers=ASYNC)
        await accept(api, str(stored.external_id), "upsert async")
        for how in ("create async", "upsert async", "batch-create", "batch-upsert"):
            await accept(api, external_id, how)
        events = await published(redis)
        keys = [event.key for event in events if UUID(event.key) != _own(event)]
        assert keys == []
        assert [event.key for event in events[:2]] == [str(stored.external_id)] * 2


def _own(event: Event) -> UUID | None:
    """Return the externalId in an event, or for a change the key that it came under."""
    match event.data:
        case LeadCreated(lead=lead):
            return lead.external_id
        case LeadUpserted(external_id=external_id):
            return external_id
        case _:
            return UUID(event.key)
