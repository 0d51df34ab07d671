"""POST /leads/import over HTTP, with the real syncer: each row is written or reported."""

import asyncio
from datetime import timedelta
from typing import Any

import httpx
import orjson
import pytest
from redis.asyncio import Redis

from shared.events.envelope import new_id
from tests.support.api import RunSyncer
from tests.support.builders import lead_body
from tests.support.eventually import eventually
from tests.support.lead_csv import csv_file, mixed_report, mixed_rows
from tests.support.lead_imports import CSV, IMPORT, NDJSON, begin, ended, keys_of_files

NO_ROWS = {"rows": 0, "created": 0, "updated": 0, "duplicate": 0, "invalid": 0, "refused": 0}


def ndjson(*leads: Any) -> bytes:
    return b"".join(orjson.dumps(lead) + b"\n" for lead in leads)


async def imported(
    client: httpx.AsyncClient, content: bytes, query: str = "", **headers: str
) -> dict[str, Any]:
    operation = await ended(client, await begin(client, content, query, **headers))
    assert operation["status"] == "succeeded", operation
    return operation


async def errors_of(client: httpx.AsyncClient, operation: dict[str, Any]) -> list[dict[str, Any]]:
    response = await client.get(operation["errorFile"])
    assert response.headers["Content-Type"] == "application/x-ndjson"
    return [orjson.loads(line) for line in response.content.splitlines()]


async def leads_of(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    leads: list[dict[str, Any]] = (await client.get("/leads?sort=createdAt")).json()
    return leads


async def test_each_row_becomes_a_lead(client: httpx.AsyncClient, redis: Redis) -> None:
    rows = [f"Ada,Lovelace {n},ada.{n}@example.com,London" for n in range(3)]
    operation = await imported(client, csv_file(rows))
    assert operation["progress"] == NO_ROWS | {"rows": 3, "created": 3}
    assert "errorFile" not in operation
    leads = await leads_of(client)
    assert [lead["lastName"] for lead in leads] == [f"Lovelace {n}" for n in range(3)]
    assert {lead["source"] for lead in leads} == {"import"}
    assert {lead["createdBy"] for lead in leads} != {None}
    assert await keys_of_files(redis) == []
    missing = await client.get(f"/operations/{operation['id']}/errors")
    assert (missing.status_code, missing.json()["code"]) == (404, "errors-not-found")


async def test_ndjson_has_a_lead_to_a_line(client: httpx.AsyncClient) -> None:
    ada, bob = lead_body(), lead_body(city=None)
    operation = await imported(client, ndjson(ada, [], bob), **NDJSON)
    assert operation["progress"] == NO_ROWS | {"rows": 3, "created": 2, "invalid": 1}
    assert await errors_of(client, operation) == [
        {"row": 2, "errors": {"row": "Is not a JSON object"}}
    ]
    assert {lead["externalId"] for lead in await leads_of(client)} == {
        ada["externalId"],
        bob["externalId"],
    }


async def test_an_export_can_be_imported_elsewhere(client: httpx.AsyncClient) -> None:
    await imported(client, csv_file(["'=A,O'Neill,ada@example.com,"]))
    for form, headers in (("csv", CSV), ("ndjson", NDJSON)):
        exported = await client.get(f"/leads/export?format={form}")
        operation = await imported(client, exported.content, **headers)
        assert operation["progress"] == NO_ROWS | {"rows": 1, "duplicate": 1}
    assert (await leads_of(client))[0]["firstName"] == "=A"


async def test_bad_rows_are_listed_in_order_and_good_ones_land(
    client: httpx.AsyncClient,
) -> None:
    known = (await client.post("/leads", json=lead_body(email="known@example.com"))).json()
    rows = [
        "Ada,Lovelace,ada@example.com,London",
        ",Hopper,grace@example," + "x" * 60,
        "",
        "Ada,Again,ADA@example.com,London",
        "too,few",
        "Known,Already,known@example.com,",
        "Mary,Somerville,mary@example.com,Jedburgh",
    ]
    operation = await imported(client, csv_file(rows))
    counts = {"rows": 6, "created": 2, "duplicate": 2, "invalid": 2}
    assert operation["progress"] == NO_ROWS | counts
    ada = next(lead for lead in await leads_of(client) if lead["email"] == "ada@example.com")
    assert await errors_of(client, operation) == [
        {
            "row": 2,
            "errors": {
                "firstName": "Is required",
                "email": "Email must be a valid email address",
                "city": "Must have at most 50 characters",
            },
        },
        {"row": 4, "errors": {"email": "Is taken"}, "existingLeadId": ada["id"]},
        {"row": 5, "errors": {"row": "Has 2 cells, the header has 4", "email": "Is required"}},
        {"row": 6, "errors": {"email": "Is taken"}, "existingLeadId": known["id"]},
    ]


async def test_an_upsert_changes_the_leads_that_are_known(client: httpx.AsyncClient) -> None:
    known = (await client.post("/leads", json=lead_body(city="London"))).json()
    new = lead_body()
    rows = ndjson(
        {**lead_body(), "externalId": known["externalId"], "city": "Paris"},
        new,
        lead_body(externalId=None),
        {**new, "phone": None},
    )
    operation = await imported(client, rows, "mode=upsert", **NDJSON)
    counts = {"rows": 4, "created": 1, "updated": 2, "invalid": 1}
    assert operation["progress"] == NO_ROWS | counts
    assert await errors_of(client, operation) == [
        {"row": 3, "errors": {"externalId": "Is required"}}
    ]
    lead = (await client.get(f"/leads/{known['id']}")).json()
    assert (lead["city"], lead["version"], lead["source"]) == ("Paris", 2, "manual")
    assert (await client.get(f"/leads/{new['externalId']}")).json()["phone"] is None


async def test_a_dry_run_tells_and_writes_nothing(client: httpx.AsyncClient) -> None:
    known = (await client.post("/leads", json=lead_body())).json()
    rows = ndjson(lead_body(), lead_body(email=known["email"]), {}, known)
    operation = await imported(client, rows, "dryRun=true", **NDJSON)
    assert operation["dryRun"] is True
    counts = {"rows": 4, "created": 1, "duplicate": 2, "invalid": 1}
    assert operation["progress"] == NO_ROWS | counts
    errors = await errors_of(client, operation)
    assert [error["row"] for error in errors] == [2, 3, 4]
    assert errors[0]["existingLeadId"] == known["id"]
    # The export's own row has no externalId that is asked for twice.
    operation = await imported(client, ndjson(known), "mode=upsert&dryRun=true", **NDJSON)
    assert operation["progress"] == NO_ROWS | {"rows": 1, "updated": 1}
    assert [lead["version"] for lead in await leads_of(client)] == [1]


async def test_columns_are_mapped(client: httpx.AsyncClient) -> None:
    content = csv_file(["ada@example.com;Ada;Lovelace;secret"], header="E-Mail;Vorname;name;Notes")
    query = "map=E-Mail:email&map=Vorname:firstName&map=name:lastName&map=Notes:"
    operation = await imported(client, content, query)
    assert operation["progress"] == NO_ROWS | {"rows": 1, "created": 1}
    (lead,) = await leads_of(client)
    assert (lead["firstName"], lead["lastName"]) == ("Ada", "Lovelace")


async def test_a_deleted_person_does_not_come_back(client: httpx.AsyncClient) -> None:
    lead = (await client.post("/leads", json=lead_body(email="gone@example.com"))).json()
    assert (await client.delete(f"/leads/{lead['id']}")).status_code == 204
    operation = await imported(client, csv_file(["Ada,King,gone@example.com,"]))
    assert operation["progress"] == NO_ROWS | {"rows": 1, "refused": 1}
    assert await errors_of(client, operation) == [
        {"row": 1, "errors": {"email": "Belongs to a lead that was deleted"}}
    ]
    assert await leads_of(client) == []


async def test_a_line_that_cannot_be_read_costs_no_other(
    client: httpx.AsyncClient, redis: Redis
) -> None:
    bad = ('Ada,"King" x,a@example.com,', 'Ada,"King,b@example.com,', "x" * 70_000)
    rows = [*mixed_rows(600), *bad, *mixed_rows(620)[600:]]
    operation = await imported(client, csv_file(rows))
    expected = mixed_report(620)
    expected |= {"rows": 623, "invalid": expected["invalid"] + 3}
    assert operation["progress"] == expected
    errors = {error["row"]: error["errors"] for error in await errors_of(client, operation)}
    assert [errors[row].keys() for row in (601, 602, 603)] == [{"row"}] * 3
    assert await keys_of_files(redis) == []


async def test_a_file_says_its_charset_and_is_told_what_is_not_imported(
    client: httpx.AsyncClient,
) -> None:
    header = "First Name;Last Name;Email;Status"
    content = csv_file(["Ad\xe8le;King;a@example.com;banana"], header=header).decode()
    named = {"Content-Type": "text/csv; charset=windows-1252"}
    operation = await imported(client, content.encode("cp1252"), **named)
    assert operation["ignoredColumns"] == ["status"]
    operation = await imported(client, content.encode("cp1252"))
    assert operation["progress"] == NO_ROWS | {"rows": 1, "invalid": 1}
    assert "ignoredColumns" not in operation
    [lead] = await leads_of(client)
    assert (lead["firstName"], lead["status"]) == ("Ad\xe8le", "new")


@pytest.mark.parametrize("form", ["csv", "ndjson", "csv&bom=true"])
async def test_an_export_changes_the_leads_that_it_is_of(
    form: str, client: httpx.AsyncClient
) -> None:
    by_hand = (await client.post("/leads", json=lead_body(externalId=None, city="Rome"))).json()
    other = (await client.post("/leads", json=lead_body(phone="+44 20 7946 0018"))).json()
    exported = (await client.get(f"/leads/export?format={form}")).content
    headers = NDJSON if form == "ndjson" else CSV
    same = await imported(client, exported, "mode=upsert", **headers)
    assert same["progress"] == NO_ROWS | {"rows": 2, "updated": 2}
    assert await leads_of(client) == [by_hand, other]
    gone = exported.replace(by_hand["id"].encode(), str(new_id()).encode())
    for dry in ("&dryRun=true", ""):
        operation = await imported(client, gone, f"mode=upsert{dry}", **headers)
        assert operation["progress"] == NO_ROWS | {"rows": 2, "updated": 1, "refused": 1}
    assert await errors_of(client, operation) == [
        {"row": 1, "errors": {"id": "There is no lead with this id"}}
    ]
    edited = exported.replace(b"Rome", b"Oslo")
    await imported(client, edited, "mode=upsert", **headers)
    [first, second] = await leads_of(client)
    assert (first["city"], first["version"], second) == ("Oslo", 2, other)


async def test_a_key_makes_a_repetition_the_same_import(
    client: httpx.AsyncClient, redis: Redis
) -> None:
    content = csv_file(mixed_rows(40))
    key = {"Idempotency-Key": "once"}
    first, again = await asyncio.gather(*(begin(client, content, **key) for _ in range(2)))
    assert first.json()["id"] == again.json()["id"]
    operation = await ended(client, first)
    assert operation["progress"] == mixed_report(40)
    later = await begin(client, content, **key)
    assert await ended(client, later) == operation
    for other, query in ((content + b"x\n", ""), (content, "dryRun=true")):
        refused = await client.post(f"{IMPORT}?{query}", content=other, headers={**CSV, **key})
        assert (refused.status_code, refused.json()["code"]) == (422, "key-reused")

    async def nothing_is_kept() -> bool:
        return await keys_of_files(redis) == []

    await eventually(nothing_is_kept)
    # Without a key it is another import, which meets the leads of the first.
    anew = await imported(client, content)
    assert anew["progress"]["duplicate"] == 40 - operation["progress"]["invalid"]


async def test_a_large_file_is_imported_to_the_row_and_is_seen_to_advance(
    client: httpx.AsyncClient,
) -> None:
    accepted = await begin(client, csv_file(mixed_rows(5_000)))
    seen: list[int] = []

    async def operation() -> dict[str, Any] | None:
        body: dict[str, Any] = (await client.get(accepted.headers["Location"])).json()
        if "progress" in body:
            progress = body["progress"]
            assert progress["rows"] == sum(progress.values()) - progress["rows"]
            seen.append(progress["rows"])
        return None if body["status"] == "pending" else body

    ended = await eventually(operation, within=timedelta(seconds=60))
    assert ended["progress"] == mixed_report(5_000)
    assert seen == sorted(seen)
    assert len(set(seen)) >= 3, seen
    errors = await errors_of(client, ended)
    assert [error["row"] for error in errors] == [
        n + 1 for n in range(5_000) if n % 10 == 3 or n % 20 == 12
    ]
    response = await client.get("/leads?source=import&count=exact&limit=1")
    assert int(response.headers["X-Total-Count"]) == mixed_report(5_000)["created"]


async def test_an_import_waits_for_a_syncer(api: httpx.AsyncClient, run_syncer: RunSyncer) -> None:
    accepted = await begin(api, csv_file(mixed_rows(20)))
    pending = (await api.get(accepted.headers["Location"])).json()
    assert pending == {"id": accepted.json()["id"], "status": "pending"}
    async with run_syncer():
        assert (await ended(api, accepted))["progress"] == mixed_report(20)


async def test_operations_that_are_none_have_no_errors(api: httpx.AsyncClient) -> None:
    for name in (str(new_id()), "7"):
        response = await api.get(f"/operations/{name}/errors")
        assert (response.status_code, response.json()["code"]) == (404, "operation-not-found")
