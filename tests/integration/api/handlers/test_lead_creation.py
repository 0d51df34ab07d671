"""POST /leads over HTTP, with the real syncer."""

import asyncio
import re
from datetime import timedelta
from uuid import uuid4

import httpx
import pytest

from services.api.handlers.operations import accepted_response
from shared.storage.pool import Database
from tests.integration.api.conftest import create
from tests.support.api import OpenApi, RunSyncer
from tests.support.auth_server import USER_ID
from tests.support.builders import lead_body
from tests.support.eventually import eventually

FIELDS = [
    *("id", "externalId", "firstName", "lastName", "email", "phone", "cell", "dob"),
    *("city", "state", "country", "picture", "summary", "nextAction", "summaryStale"),
    *("status", "source", "createdBy", "createdAt", "updatedAt", "version"),
]


class TestCreate:
    async def test_a_lead_is_answered_once_it_is_stored(
        self, client: httpx.AsyncClient, database: Database
    ) -> None:
        body = lead_body(picture="https://example.com/ada.png", dob="1815-12-10")
        response = await client.post("/leads", json=body)
        lead = response.json()
        assert response.status_code == 201
        assert list(lead) == FIELDS
        assert lead.items() >= body.items()
        assert (lead["source"], lead["status"], lead["version"]) == ("manual", "new", 1)
        assert (lead["createdBy"], lead["summary"], lead["state"]) == (USER_ID, None, None)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", lead["createdAt"])
        assert response.headers["Location"] == f"/leads/{lead['id']}"
        assert response.headers["ETag"] == '"1"'
        async with database.connection() as connection:
            assert await connection.fetchval("SELECT count(*) FROM leads.lead") == 1

    async def test_the_older_path_does_the_same(self, client: httpx.AsyncClient) -> None:
        assert (await client.post("/lead", json=lead_body())).status_code == 201

    async def test_text_is_trimmed_and_normalised(self, client: httpx.AsyncClient) -> None:
        lead = await create(client, firstName="  Zoe\u0308 ", email="ADA@Example.com")
        assert (lead["firstName"], lead["email"]) == ("Zo\u00eb", "ADA@example.com")

    @pytest.mark.parametrize("field", ["email", "externalId"])
    async def test_a_known_lead_is_a_conflict_that_names_it(
        self, field: str, client: httpx.AsyncClient
    ) -> None:
        lead = await create(client)
        same = {field: str(lead[field]).upper()}
        response = await client.post("/leads", json=lead_body(**same))
        problem = response.json()
        assert response.status_code == 409
        assert (problem["code"], problem["field"], problem["leadId"]) == (
            "duplicate-lead",
            field,
            lead["id"],
        )

    async def test_of_racing_creates_one_wins(self, client: httpx.AsyncClient) -> None:
        body = lead_body()
        responses = await asyncio.gather(*(client.post("/leads", json=body) for _ in range(8)))
        statuses = sorted(response.status_code for response in responses)
        assert statuses == [201] + [409] * 7

    async def test_every_wrong_field_is_named_at_once(self, api: httpx.AsyncClient) -> None:
        body = {
            "firstName": "",
            "email": "nobody",
            "phone": "123",
            "picture": "javascript:alert(1)",
            "externalId": "7",
            "city": "x" * 51,
            "country": 7,
            "dob": "18\u000015",
            "role": "admin",
            "first_name": "Ada",
        }
        response = await api.post("/leads", json=body)
        assert response.status_code == 400
        problem = response.json()
        assert problem["code"] == "validation-failed"
        assert problem["error"] == problem["detail"]
        assert problem["errors"] == {
            "firstName": "Must not be empty",
            "lastName": "Is required",
            "email": "Email must be a valid email address",
            "phone": "Must have at least 7 characters",
            "picture": "Picture must be an http or https URL",
            "externalId": "Must be a UUID",
            "city": "Must have at most 50 characters",
            "country": "Must be a string",
            "dob": "Control characters are not allowed",
            "role": "Is not a field that can be set",
            "first_name": "Is not a field that can be set",
        }

    async def test_an_unknown_parameter_is_named(self, api: httpx.AsyncClient) -> None:
        response = await api.post("/leads?async=1", json=lead_body())
        assert response.status_code == 400
        assert response.json()["errors"] == {"async": "Is not a parameter of this address"}


class TestIdempotencyKey:
    async def test_a_repeat_has_one_effect_and_the_same_answer(
        self, client: httpx.AsyncClient
    ) -> None:
        body, headers = lead_body(), {"Idempotency-Key": "once"}
        first = await client.post("/leads", json=body, headers=headers)
        again = await client.post("/lead", json=body, headers=headers)
        assert (first.status_code, again.status_code) == (201, 201)
        assert first.json() == again.json()
        assert len((await client.get("/leads")).json()) == 1

    async def test_another_request_under_the_same_key_is_refused(
        self, client: httpx.AsyncClient
    ) -> None:
        headers = {"Idempotency-Key": "once"}
        await client.post("/leads", json=lead_body(), headers=headers)
        response = await client.post("/leads", json=lead_body(), headers=headers)
        assert (response.status_code, response.json()["code"]) == (422, "key-reused")

    @pytest.mark.parametrize("key", ["", "x" * 256, "caf\u00e9".encode()])
    async def test_a_senseless_key_is_refused(
        self, key: str | bytes, api: httpx.AsyncClient
    ) -> None:
        response = await api.post(
            "/leads", json=lead_body(), headers=[(b"Idempotency-Key", _bytes(key))]
        )
        assert response.status_code == 400
        assert "Idempotency-Key" in response.json()["errors"]


class TestLater:
    async def test_a_create_past_the_deadline_is_accepted_and_carried_out_later(
        self, api: httpx.AsyncClient, run_syncer: RunSyncer
    ) -> None:
        response = await api.post("/leads", json=lead_body())
        assert response.status_code == 202
        assert response.json() == {
            "id": response.headers["Location"].rpartition("/")[2],
            "status": "pending",
        }
        assert response.headers["Retry-After"].isdigit()
        operation = response.headers["Location"]
        assert (await api.get(operation)).json()["status"] == "pending"

        async def succeeded() -> dict[str, str] | None:
            state = (await api.get(operation)).json()
            return state if state["status"] == "succeeded" else None

        async with run_syncer():
            state = await eventually(succeeded)
        assert (await api.get(f"/leads/{state['leadId']}")).status_code == 200

    async def test_a_client_need_not_wait(self, open_api: OpenApi) -> None:
        patience = timedelta(seconds=20)
        async with open_api(create_timeout=patience) as api, asyncio.timeout(10):
            response = await api.post(
                "/leads", json=lead_body(), headers={"Prefer": "wait=5, respond-async"}
            )
        assert response.status_code == 202

    async def test_a_failed_operation_tells_why(self, client: httpx.AsyncClient) -> None:
        lead = await create(client)
        response = await client.post(
            "/leads",
            json=lead_body(email=lead["email"]),
            headers={"Prefer": "respond-async"},
        )

        async def ended() -> dict[str, object] | None:
            state: dict[str, object] = (await client.get(response.headers["Location"])).json()
            return state if state["status"] != "pending" else None

        assert await eventually(ended) == {
            "id": response.json()["id"],
            "status": "failed",
            "error": {"code": "duplicate", "field": "email", "leadId": lead["id"]},
        }

    @pytest.mark.parametrize("operation", ["5f0c2b1e-5c1e-4f0a-8f6d-2f4f3b0f7a11", "7", "%20"])
    async def test_an_unknown_operation_is_not_found(
        self, operation: str, api: httpx.AsyncClient
    ) -> None:
        response = await api.get(f"/operations/{operation}")
        assert (response.status_code, response.json()["code"]) == (404, "operation-not-found")


def _bytes(key: str | bytes) -> bytes:
    return key if isinstance(key, bytes) else key.encode()


def test_an_accepted_answer_says_when_to_ask_again() -> None:
    assert accepted_response(uuid4()).headers["Retry-After"] == "2"
