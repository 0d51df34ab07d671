"""Changing, deleting and upserting leads over HTTP, with the real syncer."""

import asyncio
from uuid import uuid4

import httpx
import pytest

from services.api.web.body import MERGE_PATCH
from tests.integration.api.conftest import PATIENCE, Lead, create
from tests.support.api import OpenApi, RunSyncer
from tests.support.builders import lead_body
from tests.support.eventually import eventually

TYPED = {"Content-Type": MERGE_PATCH}


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


class TestUpdate:
    async def test_only_what_is_given_changes(self, client: httpx.AsyncClient, lead: Lead) -> None:
        response = await client.patch(
            f"/leads/{lead['id']}",
            headers=TYPED,
            json={"city": " Paris ", "phone": None, "status": "contacted"},
        )
        assert (response.status_code, response.headers["ETag"]) == (200, '"2"')
        changed = response.json()
        changes = {"city": "Paris", "phone": None, "status": "contacted", "version": 2}
        assert changed == {**lead, **changes, "updatedAt": changed["updatedAt"]}
        assert (await client.get(f"/leads/{lead['id']}")).json() == changed

    async def test_a_lead_is_found_by_its_external_id(
        self, client: httpx.AsyncClient, lead: Lead
    ) -> None:
        response = await client.patch(f"/leads/{lead['externalId']}", json={"state": "Idaho"})
        assert (response.status_code, response.json()["state"]) == (200, "Idaho")

    async def test_nothing_given_changes_nothing(
        self, client: httpx.AsyncClient, lead: Lead
    ) -> None:
        response = await client.patch(f"/leads/{lead['id']}", json={})
        assert (response.status_code, response.json()) == (200, lead)

    async def test_every_wrong_field_is_named(self, client: httpx.AsyncClient, lead: Lead) -> None:
        body = {
            "firstName": None,
            "email": None,
            "lastName": "",
            "status": "lost",
            "cell": "1",
            "version": 7,
            "first_name": "Ada",
        }
        response = await client.patch(f"/leads/{lead['id']}", json=body)
        assert code(response) == (400, "validation-failed")
        errors = response.json()["errors"]
        assert errors.keys() == body.keys()
        assert errors["cell"] == "Must have at least 7 characters"
        assert errors["firstName"] == errors["email"] == "Cannot be cleared"
        assert errors["version"] == "Is not a field that can be set"

    async def test_an_unknown_parameter_is_named(
        self, client: httpx.AsyncClient, lead: Lead
    ) -> None:
        response = await client.patch(f"/leads/{lead['id']}?force=1", json={"city": "Paris"})
        assert code(response) == (400, "validation-failed")
        assert response.json()["errors"].keys() == {"force"}

    async def test_another_type_of_body_is_refused(
        self, client: httpx.AsyncClient, lead: Lead
    ) -> None:
        headers = {"Content-Type": "application/json-patch+json"}
        response = await client.patch(f"/leads/{lead['id']}", content=b"{}", headers=headers)
        assert code(response) == (415, "unsupported-media-type")

    @pytest.mark.parametrize("field", ["email", "externalId"])
    async def test_what_another_lead_has_is_a_conflict(
        self, field: str, client: httpx.AsyncClient, lead: Lead
    ) -> None:
        other = await create(client)
        response = await client.patch(f"/leads/{lead['id']}", json={field: other[field]})
        assert code(response) == (409, "duplicate-lead")
        assert (response.json()["field"], response.json()["leadId"]) == (field, other["id"])

    async def test_another_leads_id_is_a_conflict_wherever_it_is_offered(
        self, client: httpx.AsyncClient, lead: Lead
    ) -> None:
        other = await create(client)
        body = lead_body(externalId=lead["id"])
        batches = [
            await client.post("/leads/batch", json={"leads": [body], "mode": mode})
            for mode in ("create", "upsert")
        ]
        for response in (
            await client.post("/leads", json=body),
            await client.patch(f"/leads/{other['id']}", json={"externalId": lead["id"]}),
            await client.put(f"/leads/by-external-id/{lead['id']}", json=body),
        ):
            assert code(response) == (409, "duplicate-lead")
            conflict = response.json()["field"], response.json()["leadId"]
            assert conflict == ("externalId", lead["id"])
        for batch in batches:
            (result,) = batch.json()["results"]
            assert (result["status"], result["error"]["code"]) == (409, "duplicate-lead")
            assert result["error"]["leadId"] == lead["id"]
        assert (await client.get(f"/leads/{lead['id']}")).json() == lead

    @pytest.mark.parametrize("key", ["5f0c2b1e-5c1e-4f0a-8f6d-2f4f3b0f7a11", "7"])
    async def test_a_lead_that_is_not_there_is_not_found(
        self, key: str, client: httpx.AsyncClient
    ) -> None:
        for response in (
            await client.patch(f"/leads/{key}", json={"city": "Paris"}),
            await client.delete(f"/leads/{key}"),
        ):
            assert code(response) == (404, "lead-not-found")

    async def test_of_two_who_saw_the_same_version_one_wins(
        self, client: httpx.AsyncClient, lead: Lead
    ) -> None:
        responses = await asyncio.gather(
            *(
                client.patch(f"/leads/{lead['id']}", json={"city": city}, headers=_if('"1"'))
                for city in ("Paris", "Rome")
            )
        )
        won, lost = sorted(responses, key=lambda response: response.status_code)
        assert (won.status_code, won.headers["ETag"]) == (200, '"2"')
        assert code(lost) == (412, "version-mismatch")
        assert (lost.json()["version"], lost.headers["ETag"]) == (2, '"2"')
        assert (await client.get(f"/leads/{lead['id']}")).json() == won.json()

    @pytest.mark.parametrize(
        ("header", "status"),
        [
            *(('"1"', 200), ("*", 200), ('"7", "1"', 200), ('W/"9","1"', 200)),
            # As proxies leave it that compress answers.
            *(('W/"1"', 200), ('"1-gzip"', 200), ('W/"7", W/"1-zstd"', 200)),
            *(('"1--gzip"', 200), ('"1;br"', 200)),
            *(('"2"', 412), ('W/"2"', 412), ('"2-gzip"', 412), ('"01"', 412), ('"one"', 412)),
            *(('"7", "9"', 412), ('"1-"', 412)),
            *(("1", 400), ("", 400), ('"1" "2"', 400), ('"1', 400)),
        ],
    )
    async def test_a_precondition_is_heeded(
        self, header: str, status: int, client: httpx.AsyncClient, lead: Lead
    ) -> None:
        response = await client.patch(
            f"/leads/{lead['id']}", json={"city": "Paris"}, headers=_if(header)
        )
        assert response.status_code == status
        etag = {200: '"2"', 412: '"1"'}.get(status)
        assert response.headers.get("ETag") == etag

    async def test_a_repeat_under_a_key_changes_once(
        self, client: httpx.AsyncClient, lead: Lead
    ) -> None:
        headers = {"Idempotency-Key": "once", **_if('"1"')}
        path = f"/leads/{lead['id']}"
        requests = (client.patch(path, json={"city": "Paris"}, headers=headers) for _ in range(3))
        first, *others = await asyncio.gather(*requests)
        assert first.status_code == 200
        assert all(other.json() == first.json() for other in others)
        response = await client.patch(path, json={"city": "Rome"}, headers=headers)
        assert code(response) == (422, "key-reused")

    async def test_of_two_wishes_under_a_key_at_once_one_is_refused(
        self, client: httpx.AsyncClient, lead: Lead
    ) -> None:
        headers = {"Idempotency-Key": "once"}
        requests = (
            client.patch(f"/leads/{lead['id']}", json={"city": city}, headers=headers)
            for city in ("Paris", "Rome")
        )
        won, lost = sorted(await asyncio.gather(*requests), key=lambda one: one.status_code)
        assert won.status_code == 200
        assert code(lost) == (422, "key-reused")
        assert (await client.get(f"/leads/{lead['id']}")).json() == won.json()


class TestDelete:
    async def test_a_lead_is_gone_at_once(self, client: httpx.AsyncClient, lead: Lead) -> None:
        response = await client.delete(f"/leads/{lead['id']}")
        assert (response.status_code, response.content) == (204, b"")
        for key in (lead["id"], lead["externalId"]):
            assert code(await client.get(f"/leads/{key}")) == (404, "lead-not-found")
            assert code(await client.delete(f"/leads/{key}")) == (404, "lead-not-found")

    async def test_a_person_may_create_it_anew(self, client: httpx.AsyncClient) -> None:
        body = lead_body()
        lead = await create(client, **body)
        await client.delete(f"/leads/{lead['externalId']}")
        assert (await create(client, **body))["id"] != lead["id"]

    async def test_a_lead_that_has_changed_stays(
        self, client: httpx.AsyncClient, lead: Lead
    ) -> None:
        path = f"/leads/{lead['id']}"
        await client.patch(path, json={"city": "Paris"})
        response = await client.delete(path, headers=_if(f'"{lead["version"]}"'))
        assert code(response) == (412, "version-mismatch")
        assert (await client.delete(path, headers=_if('"2"'))).status_code == 204


class TestUpsert:
    async def test_a_lead_is_made_and_then_changed(self, client: httpx.AsyncClient) -> None:
        body = lead_body()
        external_id = body.pop("externalId")
        path = f"/leads/by-external-id/{external_id}"
        made = await client.put(path, json=body)
        lead = made.json()
        assert made.status_code == 201
        assert lead.items() >= {**body, "externalId": external_id, "source": "manual"}.items()
        assert made.headers["Location"] == f"/leads/{lead['id']}"

        del body["phone"]
        body |= {"externalId": external_id, "city": None, "state": "Idaho"}
        changed = await client.put(path.replace(external_id, external_id.upper()), json=body)
        assert (changed.status_code, changed.headers["ETag"]) == (200, '"2"')
        changes = {"city": None, "state": "Idaho", "version": 2}
        assert changed.json() == {**lead, **changes, "updatedAt": changed.json()["updatedAt"]}

    async def test_of_racing_upserts_one_creates(self, client: httpx.AsyncClient) -> None:
        body = lead_body()
        path = f"/leads/by-external-id/{body['externalId']}"
        responses = await asyncio.gather(*(client.put(path, json=body) for _ in range(5)))
        assert sorted(response.status_code for response in responses) == [200] * 4 + [201]
        assert len({response.json()["id"] for response in responses}) == 1

    async def test_the_email_of_another_lead_is_a_conflict(
        self, client: httpx.AsyncClient, lead: Lead
    ) -> None:
        body = lead_body(email=lead["email"])
        path = f"/leads/by-external-id/{body['externalId']}"
        response = await client.put(path, json=body)
        assert code(response) == (409, "duplicate-lead")
        assert response.json()["leadId"] == lead["id"]

    async def test_a_body_may_say_the_address_once_more_or_null(
        self, client: httpx.AsyncClient
    ) -> None:
        external_id = str(uuid4())
        path = f"/leads/by-external-id/{external_id}"
        body = lead_body(externalId=None)
        for said, status in ((None, 201), (external_id, 200), (external_id.upper(), 200)):
            response = await client.put(path, json={**body, "externalId": said})
            assert (response.status_code, response.json()["externalId"]) == (status, external_id)
        response = await client.put(path, json={**body, "externalId": None})
        assert (response.status_code, response.json()["externalId"]) == (200, external_id)
        assert response.json()["version"] == 1

    async def test_a_body_for_another_address_is_refused(self, api: httpx.AsyncClient) -> None:
        body = lead_body(externalId=str(uuid4()))
        response = await api.put(f"/leads/by-external-id/{uuid4()}", json=body)
        assert response.json()["errors"] == {"externalId": "Must be the one in the address"}

    async def test_what_cannot_be_heeded_is_refused(self, api: httpx.AsyncClient) -> None:
        body = lead_body(externalId=None)
        response = await api.put("/leads/by-external-id/7", json=body)
        assert response.json()["errors"] == {"externalId": "Must be a UUID"}
        path = f"/leads/by-external-id/{uuid4()}"
        response = await api.put(path, json=body, headers=_if('"1"'))
        assert response.json()["errors"].keys() == {"If-Match"}
        # "Only if there is none": passed over, it would change the lead that there is.
        response = await api.put(path, json=body, headers={"If-None-Match": "*"})
        assert response.status_code == 400
        assert response.json()["errors"].keys() == {"If-None-Match"}


class TestLater:
    async def test_writes_past_the_deadline_are_accepted_and_carried_out_later(
        self, api: httpx.AsyncClient, open_api: OpenApi, run_syncer: RunSyncer
    ) -> None:
        async with run_syncer(), open_api(create_timeout=PATIENCE) as patient:
            lead, other = await create(patient), await create(patient)
        path, external_id = f"/leads/{lead['id']}", str(uuid4())
        accepted = [
            await api.patch(path, json={"city": "Paris"}, headers={"Prefer": "respond-async"}),
            await api.put(f"/leads/by-external-id/{external_id}", json=lead_body(externalId=None)),
            await api.delete(f"/leads/{other['id']}"),
        ]
        assert [response.status_code for response in accepted] == [202] * 3
        locations = [response.headers["Location"] for response in accepted]

        async def ended() -> list[dict[str, str]] | None:
            states = [(await api.get(location)).json() for location in locations]
            return None if any(state["status"] == "pending" for state in states) else states

        async with run_syncer():
            states = await eventually(ended)
            assert {state["status"] for state in states} == {"succeeded"}
            assert (await api.get(path)).json()["city"] == "Paris"
            assert (await api.get(f"/leads/{external_id}")).status_code == 200
            assert (await api.get(f"/leads/{other['id']}")).status_code == 404


def _if(tags: str) -> dict[str, str]:
    return {"If-Match": tags}
