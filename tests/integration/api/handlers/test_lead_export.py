"""GET /leads/export: whole files, from one snapshot, for as long as somebody reads."""

import asyncio
import contextlib
import csv
from collections.abc import AsyncGenerator
from datetime import timedelta

import httpx
import orjson
import psycopg
import pytest

from shared.storage.pool import Database
from tests.support.api import OpenApi
from tests.support.eventually import eventually
from tests.support.lead_table import insert_lead

MANY = 20_000
_MANY = """
    INSERT INTO leads.lead (id, first_name, last_name, email, email_key, source, city, picture,
                            created_at, updated_at)
    SELECT gen_random_uuid(), 'Ada', 'Lovelace', n || '@example.com', n || '@example.com',
           'import', 'London', 'https://example.com/' || repeat('x', 200), now(), now()
    FROM generate_series(1, $1::int) AS n
"""


@pytest.fixture
async def many_leads(database: Database) -> None:
    """Store more leads than fit into the buffers of a connection."""
    async with database.connection() as connection:
        await connection.execute(_MANY, MANY, timeout=60)  # where the machine is busy


async def exporting(postgres_dsn: str) -> int:
    """Return how many transactions are open in the database."""
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as connection:
        cursor = await connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND xact_start IS NOT NULL AND pid <> pg_backend_pid()"
        )
        row = await cursor.fetchone()
        assert row is not None
        return int(row[0])


@contextlib.asynccontextmanager
async def begun(api: httpx.AsyncClient) -> AsyncGenerator[httpx.Response]:
    """Have an export begin, and read no more than its first bytes."""
    async with api.stream("GET", "/leads/export") as response:
        assert response.status_code == 200
        yield response


async def test_ndjson_has_a_lead_to_a_line(database: Database, api: httpx.AsyncClient) -> None:
    for status in ("new", "converted", "new"):
        await insert_lead(database, status=status)
    response = await api.get("/leads/export?status=new")
    assert response.headers["Content-Type"] == "application/x-ndjson"
    assert '.ndjson"' in response.headers["Content-Disposition"]
    exported = [orjson.loads(line) for line in response.content.splitlines()]
    listed = (await api.get("/leads?status=new&sort=createdAt")).json()
    assert exported == listed
    assert len(exported) == 2


async def test_what_is_new_is_exported_once_nothing_older_can_follow(
    database: Database, api: httpx.AsyncClient
) -> None:
    address = "/leads/export?createdAfter=2026-01-01"
    async with database.transaction() as connection:
        await connection.fetchval("SELECT leads.stamp()")
        await insert_lead(database)
        assert (await api.get(address)).content == b""
        assert (await api.get("/leads/export")).content != b""
    await asyncio.sleep(0.002)
    assert (await api.get(address)).content != b""


async def test_csv_runs_nothing_in_a_spreadsheet(
    database: Database, api: httpx.AsyncClient
) -> None:
    await insert_lead(database, first_name="=cmd|' /C calc'!A0", last_name="O'Neill, Jr.")
    response = await api.get("/leads/export?format=csv")
    assert response.headers["Content-Type"].startswith("text/csv; charset=utf-8")
    assert response.headers["Content-Disposition"].startswith('attachment; filename="leads-')
    header, row = csv.reader(response.text.splitlines())
    lead = dict(zip(header, row, strict=True))
    assert lead["firstName"] == "'=cmd|' /C calc'!A0"
    assert lead["lastName"] == "O'Neill, Jr."
    # As JSON has them: other programs read the file too.
    assert (lead["summaryStale"], lead["version"], lead["cell"]) == ("false", "1", "")


async def test_csv_may_begin_with_the_mark_that_excel_looks_for(api: httpx.AsyncClient) -> None:
    for query, mark in (("", b""), ("&bom=false", b""), ("&bom=true", b"\xef\xbb\xbf")):
        response = await api.get(f"/leads/export?format=csv{query}")
        assert response.content.startswith(mark + b"id,externalId")
    refused = await api.get("/leads/export?format=ndjson&bom=true")
    assert (refused.status_code, refused.json()["errors"].keys()) == (400, {"bom"})


async def test_accept_says_what_to_write_unless_the_address_does(api: httpx.AsyncClient) -> None:
    csv_, ndjson = "text/csv", "application/x-ndjson"
    for accept, query, expected in (
        (csv_, "", csv_),
        (f"{csv_};charset=utf-8, */*;q=0.8", "", csv_),
        ("*/*", "", ndjson),
        (f"{ndjson};q=0.5, {csv_}", "", csv_),
        (f"{csv_}, {ndjson}, application/problem+json", "", ndjson),
        ("application/json", "", ndjson),
        (ndjson, "?format=csv", csv_),
        (csv_, "?format=ndjson", ndjson),
    ):
        response = await api.get(f"/leads/export{query}", headers={"Accept": accept})
        assert response.headers["Content-Type"].partition(";")[0] == expected, (accept, query)


@pytest.mark.parametrize(("form", "lines"), [("csv", 1), ("ndjson", 0)])
async def test_of_no_leads_there_is_a_file_too(
    form: str, lines: int, api: httpx.AsyncClient
) -> None:
    response = await api.get(f"/leads/export?format={form}")
    assert (response.status_code, len(response.text.splitlines())) == (200, lines)
    assert (await api.head(f"/leads/export?format={form}")).content == b""


@pytest.mark.parametrize("query", ["format=xml", "limit=1", "sort=createdAt", "status=x"])
async def test_a_senseless_query_is_refused_by_name(query: str, api: httpx.AsyncClient) -> None:
    response = await api.get(f"/leads/export?{query}")
    assert response.status_code == 400
    assert list(response.json()["errors"]) == [query.partition("=")[0]]


@pytest.mark.usefixtures("many_leads")
async def test_everything_arrives_and_each_answer_has_the_usual_headers(
    api: httpx.AsyncClient,
) -> None:
    async with api.stream("GET", "/leads/export", headers={"X-Request-Id": "mine"}) as response:
        assert response.headers["X-Request-Id"] == "mine"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        exported = [line async for line in response.aiter_lines()]
    assert len(set(exported)) == MANY


@pytest.mark.usefixtures("many_leads")
async def test_the_query_ends_when_the_client_goes_away(
    postgres_dsn: str, api: httpx.AsyncClient
) -> None:
    async with begun(api):
        assert await exporting(postgres_dsn) == 1

    async def has_ended() -> bool:
        return await exporting(postgres_dsn) == 0

    await eventually(has_ended)
    async with begun(api):
        pass


@pytest.mark.usefixtures("many_leads")
async def test_only_so_many_go_on_at_a_time(postgres_dsn: str, api: httpx.AsyncClient) -> None:
    async with begun(api), begun(api):
        refused = await api.get("/leads/export")
        assert (refused.status_code, refused.json()["code"]) == (429, "rate-limited")
        assert refused.headers["Retry-After"]
        # Everything else goes on.
        assert (await api.get("/leads")).status_code == 200

    async def is_free() -> bool:
        return await exporting(postgres_dsn) == 0

    await eventually(is_free)
    assert (await api.head("/leads/export")).status_code == 200


@pytest.mark.usefixtures("many_leads")
async def test_a_file_that_breaks_off_is_seen_to(postgres_dsn: str, api: httpx.AsyncClient) -> None:
    async with begun(api) as response:
        async with await psycopg.AsyncConnection.connect(
            postgres_dsn, autocommit=True
        ) as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        with pytest.raises(httpx.RemoteProtocolError):
            await response.aread()


@pytest.mark.usefixtures("many_leads")
async def test_an_export_may_take_longer_than_other_requests(open_api: OpenApi) -> None:
    limit = timedelta(seconds=2)  # in which a busy machine begins to answer
    async with open_api(request_timeout=limit) as api, begun(api) as response:
        number = 0
        async for line in response.aiter_lines():
            number += 1
            if number == 1:
                await asyncio.sleep(limit.total_seconds() * 1.5)  # with nothing read
            assert line
    assert number == MANY


async def test_without_postgresql_there_is_a_problem_and_no_file(
    aloof_api: httpx.AsyncClient,
) -> None:
    response = await aloof_api.get("/leads/export")
    assert (response.status_code, response.json()["code"]) == (503, "unavailable")
