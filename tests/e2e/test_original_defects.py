"""What the first version of this service got wrong, each shown to be right over the whole system.

| what went wrong | the test |
|---|---|
| two racing creates: 500 for one of them | `test_of_racing_creates_one_wins` |
| malformed JSON, bad percent-encoding, NUL: 500 | `test_a_malformed_request_is_refused` |
| a 200 kB body: taken | `test_a_large_body_is_refused` |
| e-mail addresses that differ in case: two leads | `test_an_email_in_another_case_is_a_duplicate` |
| a `javascript:` picture: taken | `test_a_picture_that_runs_code_is_refused` |
| a read by externalId after a summary: stale | `test_both_ids_are_fresh_right_after_a_summary` |
| a changed row: an older one cached over it | `test_no_reader_goes_back_in_time`, \
`test_an_older_version_never_replaces_a_newer_one` |
| a deleted row: served, written back | `test_a_deleted_lead_is_not_served_nor_filled_in_again` |
| any Redis key: readable as a lead | `test_a_foreign_redis_key_is_no_lead` |
| the model's nonsense: stored, cached | `test_nonsense_from_the_model_is_not_kept`, \
`test_nonsense_reaches_neither_database_nor_cache` |
| ten summaries of one lead: ten calls | `test_ten_summaries_of_one_lead_are_one_call` |
| Redis down: 9.6 s for an answer | `test_redis_down_is_answered_in_two_seconds`, \
`test_redis_hanging_is_answered_in_two_seconds` |
| Supabase down: 401 | `test_supabase_down_is_no_verdict_on_anyone` |
| SIGTERM: requests in flight cut off | `test_sigterm_lets_the_api_finish` |
"""

import asyncio
import re
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from shared.cache.lead_cache import PREFIX
from tests.support.api_client import ApiClient
from tests.support.builders import lead_body
from tests.support.repository import ROOT
from tests.support.stack import Stack

JSON = {"Content-Type": "application/json"}
RACERS = 8


def test_the_table_names_tests_that_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", __doc__ or ""))
    written = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)\(", path.read_text())
    }
    assert len(named) > 12
    assert named - written == set()


async def test_of_racing_creates_one_wins(client: ApiClient) -> None:
    body = lead_body()
    # Some race for the e-mail address, some for the externalId, some for both.
    rivals = [body, body, lead_body(email=body["email"]), lead_body(externalId=body["externalId"])]
    answers = await asyncio.gather(
        *(client.post("/leads", json=rivals[number % 4]) for number in range(RACERS))
    )
    statuses = sorted(answer.status for answer in answers)
    # The two that share nothing with each other may both win, and then no other does.
    assert statuses in ([201] + [409] * 7, [201] * 2 + [409] * 6)
    winners = {answer.json["id"] for answer in answers if answer.status == 201}
    for answer in answers:
        if answer.status == 409:
            assert answer.code == "duplicate-lead"
            assert answer.json["field"] in {"email", "externalId"}
            assert answer.json["leadId"] in winners
    leads = await client.list_all()
    assert sum(lead["email"] == body["email"] for lead in leads) == 1
    assert sum(lead["externalId"] == body["externalId"] for lead in leads) == 1


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/leads", b'{"firstName": "Ada"'),
        ("POST", "/leads", b""),
        ("POST", "/leads", b"null"),
        ("POST", "/leads", b'{"email": NaN}'),
        ("POST", "/leads", b'{"firstName": "\xff"}'),
        ("POST", "/leads", b'{"firstName": "\\ud800"}'),
        ("POST", "/leads", b"[" * 50_000),
        ("POST", "/authentication/login", b"{"),
        ("POST", "/authentication/signup", b'{"email": "a\\u0000@example.com", "password": "x"}'),
        ("GET", "/leads/%zz", None),
        ("GET", "/leads/%00", None),
        ("GET", "/leads/%ff%fe", None),
        ("POST", "/leads/%zz/summary", None),
        ("GET", "/leads?limit=%zz", None),
        ("GET", "/%zz", None),
    ],
)
async def test_a_malformed_request_is_refused(
    method: str, path: str, body: bytes | None, client: ApiClient
) -> None:
    answer = await client.ask(method, path, data=body, headers=JSON)
    assert 400 <= answer.status < 500
    assert answer.code


@pytest.mark.parametrize("field", ["firstName", "email", "phone", "city", "picture"])
async def test_nul_in_a_field_is_refused(field: str, client: ApiClient) -> None:
    body = lead_body(picture="https://example.com/ada.png")
    answer = await client.post("/leads", json=body | {field: f"{body[field]}\0"})
    assert answer.status == 400
    assert list(answer.json["errors"]) == [field]


@pytest.mark.parametrize("path", ["/leads", "/authentication/signup"])
async def test_a_large_body_is_refused(path: str, client: ApiClient) -> None:
    body = b'{"firstName": "' + b"x" * 200_000 + b'"}'
    answer = await client.post(path, data=body, headers=JSON)
    assert (answer.status, answer.code) == (413, "body-too-large")


async def test_an_email_in_another_case_is_a_duplicate(client: ApiClient) -> None:
    lead = await client.create()
    answer = await client.post("/leads", json=lead_body(email=lead["email"].upper()))
    assert answer.status == 409
    assert (answer.json["field"], answer.json["leadId"]) == ("email", lead["id"])


@pytest.mark.parametrize("picture", ["javascript:alert(1)", "data:text/html,x", "//example.com/a"])
async def test_a_picture_that_runs_code_is_refused(picture: str, client: ApiClient) -> None:
    answer = await client.post("/leads", json=lead_body(picture=picture))
    assert answer.status == 400
    assert list(answer.json["errors"]) == ["picture"]


async def test_both_ids_are_fresh_right_after_a_summary(client: ApiClient) -> None:
    lead = await client.create()
    for key in (lead["id"], lead["externalId"]):
        assert (await client.read(key))["summary"] is None  # so that it is cached
    summarised = (await client.post(f"/leads/{lead['id']}/summary")).json
    assert summarised["summary"]
    assert await client.read(lead["externalId"]) == summarised
    assert await client.read(lead["id"]) == summarised


async def test_no_reader_goes_back_in_time(client: ApiClient) -> None:
    lead = await client.create()
    done = asyncio.Event()

    async def read(key: str) -> list[int]:
        versions: list[int] = []
        while not done.is_set():
            versions.append((await client.read(key))["version"])
        return versions

    async def change() -> None:
        for _ in range(5):
            answer = await client.post(f"/leads/{lead['id']}/summary?regenerate=true")
            assert answer.status == 200, answer.body
            # A read after the answer sees the change.
            assert (await client.read(lead["externalId"]))["version"] >= answer.json["version"]
        done.set()

    async with asyncio.TaskGroup() as group:
        readers = [
            group.create_task(read(lead[key]), name=f"read by {key}")
            for key in ("id", "externalId", "id", "externalId")
        ]
        group.create_task(change(), name="change")
    for versions in (reader.result() for reader in readers):
        assert versions == sorted(versions)
        assert versions[-1] > 1


async def test_a_foreign_redis_key_is_no_lead(stack: Stack, client: ApiClient) -> None:
    external_id = str(uuid4())
    # All names under which a careless cache might look, and one that it does own.
    keys = ["secret", external_id, f"lead:{external_id}", f"leads:{external_id}"]
    async with Redis.from_url(stack.environment["REDIS_URL"]) as redis:
        for key in keys:
            await redis.set(key, '1:{"id": "stolen"}')
        lead = await client.create()
        own = f"{PREFIX}lead:{lead['id']}"
        assert await redis.exists(own)
        for key in (*keys, "stream:leads", own):
            answer = await client.get(f"/leads/{key}")
            assert (answer.status, answer.code) == (404, "lead-not-found"), key
        await redis.delete(*keys)


async def test_every_problem_has_the_names_that_old_clients_read(client: ApiClient) -> None:
    answers = [
        await client.get("/nowhere"),
        await client.ask("DELETE", "/health"),
        await client.with_token(None).get("/leads"),
        await client.post("/leads", data=b"<xml/>", headers={"Content-Type": "text/xml"}),
        await client.post("/leads", json={}),
    ]
    assert [answer.status for answer in answers] == [404, 405, 401, 415, 400]
    for answer in answers:
        problem: dict[str, Any] = answer.json
        assert answer.code == problem["code"]
        assert problem["error"] == problem["detail"]
        assert problem["status"] == answer.status
