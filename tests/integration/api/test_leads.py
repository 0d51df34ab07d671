"""`/leads` over HTTP, with the real syncer behind it."""

import asyncio
import re
from uuid import uuid4

import httpx
import pytest
from redis.asyncio import Redis

from services.api.handlers.operations import accepted_response
from shared.cache.lead_cache import PREFIX
from shared.storage.pool import Database
from tests.support.api import OpenApi, RunSyncer
from tests.support.auth_server import USER_ID
from tests.support.builders import lead_body
from tests.support.eventually import eventually

FIELDS = [
    *("id", "externalId", "firstName", "lastName", "email", "phone", "cell", "dob"),
    *("city", "state", "country", "picture", "summary", "nextAction", "summaryStale"),
    *("status", "source", "createdBy", "createdAt", "updatedAt", "version"),
]


async def create(client: httpx.AsyncClient, **changes: object) -> dict[str, object]:
    response = await client.post("/leads", json=lead_body(**changes))
    assert response.status_code == 201, response.text
    lead: dict[str, object] = response.json()
    return lead


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

    async def test_a_client_need_not_wait(self, api: httpx.AsyncClient) -> None:
        async with asyncio.timeout(0.15):  # less than the API would wait for an outcome
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
    async def test_an_operation_nobody_asked_for_is_not_found(
        self, operation: str, api: httpx.AsyncClient
    ) -> None:
        response = await api.get(f"/operations/{operation}")
        assert (response.status_code, response.json()["code"]) == (404, "operation-not-found")


class TestRead:
    async def test_a_lead_is_read_by_either_id_in_either_case(
        self, client: httpx.AsyncClient
    ) -> None:
        for external_id in (str(uuid4()), lead_body()["externalId"]):
            lead = await create(client, externalId=external_id)
            for key in (str(lead["id"]), external_id, external_id.upper()):
                response = await client.get(f"/leads/{key}")
                assert (response.status_code, response.json()) == (200, lead)
                assert response.headers["ETag"] == '"1"'

    async def test_a_read_fills_an_empty_cache(
        self, client: httpx.AsyncClient, redis: Redis
    ) -> None:
        lead = await create(client)
        await redis.delete(*await redis.keys(f"{PREFIX}*"))
        for key in (lead["id"], lead["externalId"]):
            assert (await client.get(f"/leads/{key}")).json() == lead
        assert len(await redis.keys(f"{PREFIX}*")) == 2

    @pytest.mark.parametrize(
        ("tag", "status"),
        [('"1"', 304), ('W/"1"', 304), ('"7", "1"', 304), ("*", 304), ('"2"', 200), ("1", 200)],
    )
    async def test_a_current_copy_is_not_sent_again(
        self, tag: str, status: int, client: httpx.AsyncClient
    ) -> None:
        lead = await create(client)
        response = await client.get(f"/leads/{lead['id']}", headers={"If-None-Match": tag})
        assert (response.status_code, response.headers["ETag"]) == (status, '"1"')
        assert (response.content == b"") == (status == 304)

    async def test_head_answers_as_get_without_the_body(self, client: httpx.AsyncClient) -> None:
        lead = await create(client)
        head = await client.head(f"/leads/{lead['id']}")
        get = await client.get(f"/leads/{lead['id']}")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Content-Length"] == str(len(get.content))

    async def test_a_body_that_comes_with_a_read_is_ignored(
        self, client: httpx.AsyncClient
    ) -> None:
        lead = await create(client)
        for _ in range(2):
            response = await client.request("GET", f"/leads/{lead['id']}", json={"some": "body"})
            assert response.status_code == 200

    @pytest.mark.parametrize(
        "key",
        [
            "7",
            "5f0c2b1e-5c1e-4f0a-8f6d-2f4f3b0f7a11",
            "5f0c2b1e5c1e4f0a8f6d2f4f3b0f7a11",
            "{5f0c2b1e-5c1e-4f0a-8f6d-2f4f3b0f7a11}",
            "urn:uuid:5f0c2b1e-5c1e-4f0a-8f6d-2f4f3b0f7a11",
            "%00",
            "..%2F..%2Fetc%2Fpasswd",
            "x" * 4000,
        ],
    )
    async def test_what_is_not_there_is_not_found(self, key: str, api: httpx.AsyncClient) -> None:
        response = await api.get(f"/leads/{key}")
        assert response.status_code == 404
        assert response.json()["code"] in {"lead-not-found", "not-found"}

    async def test_a_foreign_key_of_the_same_redis_cannot_be_read(
        self, api: httpx.AsyncClient, redis: Redis
    ) -> None:
        name = str(uuid4())
        await redis.set(name, b'1:{"secret": true}')
        await redis.set(f"lead:{name}", b'1:{"secret": true}')
        for path in (name, f"..%2F{name}", "session:admin", "stream:leads"):
            response = await api.get(f"/leads/{path}")
            assert response.status_code == 404
            assert "secret" not in response.json()


class TestList:
    async def test_an_empty_list_is_an_array(self, api: httpx.AsyncClient) -> None:
        response = await api.get("/leads")
        assert (response.status_code, response.json()) == (200, [])
        assert "Link" not in response.headers

    async def test_pages_lead_to_every_lead_once_newest_first(
        self, client: httpx.AsyncClient
    ) -> None:
        created = [await create(client) for _ in range(7)]
        seen: list[dict[str, object]] = []
        address: str | None = "/leads?limit=3"
        sizes: list[int] = []
        while address is not None:
            response = await client.get(address)
            page = response.json()
            sizes.append(len(page))
            seen += page
            address = next_page(response)
        assert sizes == [3, 3, 1]
        assert seen == created[::-1]

    async def test_a_full_last_page_promises_no_other(self, client: httpx.AsyncClient) -> None:
        for _ in range(3):
            await create(client)
        assert next_page(await client.get("/leads?limit=3")) is None

    @pytest.mark.parametrize(
        "query", ["limit=0", "limit=501", "limit=x", "after=abc", "page=2", "limit=1&limit=2"]
    )
    async def test_a_senseless_query_is_refused_by_name(
        self, query: str, api: httpx.AsyncClient
    ) -> None:
        response = await api.get(f"/leads?{query}")
        assert response.status_code == 400
        assert list(response.json()["errors"]) == [query.partition("=")[0]]


def next_page(response: httpx.Response) -> str | None:
    link = response.links.get("next")
    return None if link is None else link["url"]


def _bytes(key: str | bytes) -> bytes:
    return key if isinstance(key, bytes) else key.encode()


def test_an_accepted_answer_says_when_to_ask_again() -> None:
    assert accepted_response(uuid4()).headers["Retry-After"] == "2"


async def test_requests_of_one_client_do_not_wait_for_each_other(open_api: OpenApi) -> None:
    async with open_api() as api:
        waiting = asyncio.create_task(api.post("/leads", json=lead_body()), name="waiting")
        async with asyncio.timeout(1):
            assert (await api.get("/leads")).status_code == 200
        assert not waiting.done()
        waiting.cancel()
