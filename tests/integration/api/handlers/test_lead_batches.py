"""`/leads/batch` over HTTP, with the real syncer."""

import asyncio
import json
from typing import Any

import httpx

from services.api.handlers.lead_batches import BODY_LIMIT, MOST_ROWS
from tests.support.api import RunSyncer
from tests.support.builders import lead_body
from tests.support.eventually import eventually

BATCH = "/leads/batch"
JSON = {"Content-Type": "application/json"}


async def write(client: httpx.AsyncClient, leads: list[Any], **rest: Any) -> list[dict[str, Any]]:
    # ASCII, so that lone surrogates can be sent.
    body = json.dumps({"leads": leads, **rest})
    response = await client.post(BATCH, content=body, headers=JSON)
    assert response.status_code == 207, response.text
    results: list[dict[str, Any]] = response.json()["results"]
    return results


def statuses(results: list[dict[str, Any]]) -> list[int]:
    return [result["status"] for result in results]


async def test_every_row_has_a_result_in_order_and_fails_alone(client: httpx.AsyncClient) -> None:
    ada, bob = lead_body(), lead_body()
    rows = [ada, lead_body(email="nobody", role="x"), bob, lead_body(email=ada["email"]), 7, None]

    results = await write(client, [*rows, {"\ud800": 1, **lead_body()}])

    assert statuses(results) == [201, 400, 201, 409, 400, 400, 400]
    assert results[0]["lead"].items() >= ada.items()
    assert results[2]["lead"].items() >= bob.items()
    error = results[1]["error"]
    assert error["code"] == "validation-failed"
    assert error["errors"] == {
        "email": "Email must be a valid email address",
        "role": "Is not a field that can be set",
    }
    conflict = results[3]["error"]
    assert (conflict["code"], conflict["field"]) == ("duplicate-lead", "email")
    assert conflict["leadId"] == results[0]["lead"]["id"]
    assert results[4]["error"]["errors"] == {"body": "Must be an object"}
    assert len((await client.get("/leads")).json()) == 2


async def test_an_upsert_changes_what_is_known(client: httpx.AsyncClient) -> None:
    known, new = lead_body(), lead_body()
    (created,) = await write(client, [known])
    changed = {**known, "city": "Paris"}

    results = await write(
        client, [changed, new, lead_body(externalId=None), {**new, "city": None}], mode="upsert"
    )

    assert statuses(results) == [200, 201, 400, 200]
    assert results[0]["lead"]["id"] == created["lead"]["id"]
    assert (results[0]["lead"]["city"], results[0]["lead"]["version"]) == ("Paris", 2)
    assert results[2]["error"]["errors"] == {"externalId": "Is required"}
    assert (results[3]["lead"]["city"], results[3]["lead"]["id"]) == (
        None,
        results[1]["lead"]["id"],
    )


async def test_as_many_rows_as_are_allowed_are_written(client: httpx.AsyncClient) -> None:
    results = await write(client, [lead_body() for _ in range(MOST_ROWS)])

    assert set(statuses(results)) == {201}
    assert len({result["lead"]["id"] for result in results}) == MOST_ROWS


async def test_what_is_no_batch_is_refused_whole(api: httpx.AsyncClient) -> None:
    refused: list[tuple[dict[str, Any], set[str]]] = [
        ({}, {"leads"}),
        ({"leads": []}, {"leads"}),
        ({"leads": {}}, {"leads"}),
        ({"leads": [1], "mode": "replace", "x": 1}, {"mode", "x"}),
    ]
    for body, names in refused:
        response = await api.post(BATCH, json=body)
        assert response.status_code == 400
        assert response.json()["errors"].keys() == names
    response = await api.post(BATCH, json={"leads": [0] * (MOST_ROWS + 1)})
    assert response.json()["errors"] == {"leads": f"Must have at most {MOST_ROWS} items"}
    response = await api.post(BATCH, content=b" " * (BODY_LIMIT + 1), headers=JSON)
    assert (response.status_code, response.json()["code"]) == (413, "body-too-large")


async def test_a_repeat_under_a_key_has_one_effect_and_the_same_answer(
    client: httpx.AsyncClient,
) -> None:
    body = {"leads": [lead_body(), {}, lead_body()]}
    headers = {"Idempotency-Key": "once"}

    first, again = await asyncio.gather(
        *(client.post(BATCH, json=body, headers=headers) for _ in range(2))
    )
    assert statuses(first.json()["results"]) == [201, 400, 201]
    assert again.json() == first.json()

    body["leads"].append(lead_body())
    other = await client.post(BATCH, json=body, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "key-reused")
    assert len((await client.get("/leads")).json()) == 2


async def test_rows_that_take_long_become_operations(
    api: httpx.AsyncClient, run_syncer: RunSyncer
) -> None:
    response = await api.post(
        BATCH,
        json={"leads": [lead_body(), {}, lead_body()]},
        headers={"Prefer": "respond-async"},
    )
    results = response.json()["results"]
    assert statuses(results) == [202, 400, 202]
    operations = [result["operation"] for result in results if "operation" in result]
    assert {operation["status"] for operation in operations} == {"pending"}

    async def succeeded() -> bool:
        states = [(await api.get(f"/operations/{one['id']}")).json() for one in operations]
        return {state["status"] for state in states} == {"succeeded"}

    async with run_syncer():
        await eventually(succeeded)
