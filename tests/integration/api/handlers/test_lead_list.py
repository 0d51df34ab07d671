"""GET /leads: what its parameters do, and where its links lead."""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from shared.storage.pool import Connection, Database
from tests.support.api import OpenApi
from tests.support.lead_table import insert_lead

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
POLLS = [
    "/leads?updatedAfter=2026-06-01",
    "/leads?createdAfter=2026-06-01",
    "/leads?createdAfter=2026-06-01&updatedAfter=2026-06-01&sort=lastName",
    "/leads?updatedAfter=2026-06-01&updatedBefore=2099-01-01&status=qualified",
    "/leads?sort=updatedAt",
    "/leads?sort=-updatedAt&limit=1",
]

_MANY = """
    INSERT INTO leads.lead (id, first_name, last_name, email, email_key, source, created_at,
                            updated_at)
    SELECT gen_random_uuid(), 'Ada', 'Lovelace', n || '@example.com', n || '@example.com',
           'import', now(), now()
    FROM generate_series(1, $1::int) AS n
"""

Commit = Callable[[], Awaitable[None]]


@pytest.fixture
async def leads(database: Database) -> None:
    """Store six leads, in the opposite order of their names."""
    for number, name in enumerate(["Zuse", "Ömer", "Noether", "Lovelace", "Hopper", "Babbage"]):
        await insert_lead(
            database,
            last_name=name,
            status="new" if number % 2 else "qualified",
            country="Côte d'Ivoire",
            created_at=NOON + timedelta(minutes=number),
            updated_at=NOON - timedelta(minutes=number),
        )


async def walk(api: httpx.AsyncClient, address: str) -> list[list[dict[str, Any]]]:
    """Return the pages from an address on."""
    pages: list[list[dict[str, Any]]] = []
    link: str | None = address
    while link is not None:
        response = await api.get(link)
        assert response.status_code == 200, response.text
        pages.append(response.json())
        link = response.links.get("next", {}).get("url")
    return pages


def names(pages: list[list[dict[str, Any]]]) -> str:
    return "|".join(",".join(lead["lastName"] for lead in page) for page in pages)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("limit=4", "Babbage,Hopper,Lovelace,Noether|Ömer,Zuse"),
        ("limit=3&sort=createdAt", "Zuse,Ömer,Noether|Lovelace,Hopper,Babbage"),
        ("limit=4&sort=lastName", "Babbage,Hopper,Lovelace,Noether|Ömer,Zuse"),
        ("limit=5&sort=-lastName", "Zuse,Ömer,Noether,Lovelace,Hopper|Babbage"),
        ("limit=5&sort=updatedAt", "Babbage,Hopper,Lovelace,Noether,Ömer|Zuse"),
        ("limit=5&sort=-updatedAt", "Zuse,Ömer,Noether,Lovelace,Hopper|Babbage"),
        ("limit=2&status=new&sort=lastName", "Babbage,Lovelace|Ömer"),
        ("limit=1&q=ad%20london&status=qualified", "Hopper|Noether|Zuse"),
        ("limit=6&country=cote+d%27ivoire", "Babbage,Hopper,Lovelace,Noether,Ömer,Zuse"),
        ("limit=6&createdAfter=2026-01-01T12:04Z", "Babbage,Hopper"),
        ("limit=6&createdBefore=2026-01-01T14:02%2B02:00", "Ömer,Zuse"),
        ("limit=6&hasSummary=true", ""),
    ],
)
@pytest.mark.usefixtures("leads")
async def test_links_lead_through_the_list_with_all_parameters(
    query: str, expected: str, api: httpx.AsyncClient
) -> None:
    assert names(await walk(api, f"/leads?{query}")) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("sort=lastName", "Hopper,Noether|Zuse"),
        ("sort=-createdAt&q=london", "Hopper,Noether|Zuse"),
        ("status=new", ""),
        ("sort=updatedAt&updatedBefore=2026-01-01T12:00Z", "Hopper,Noether"),
        ("sort=createdAt&createdAfter=2026-01-01T12:01Z", "Noether,Hopper"),
    ],
)
@pytest.mark.usefixtures("leads")
async def test_leads_are_found_by_their_ids_with_other_filters(
    query: str, expected: str, api: httpx.AsyncClient
) -> None:
    ids = {lead["lastName"]: lead["id"] for lead in (await api.get("/leads")).json()}
    some = [ids["Zuse"], ids["Hopper"].upper(), ids["Noether"], ids["Zuse"]]
    others = [str(uuid4()) for _ in range(96)]
    wanted = "&".join(f"id={one}" for one in (*some, *others))
    response = await api.get(f"/leads?{wanted}&limit=2&count=exact&{query}")
    number = len([name for name in re.split("[,|]", expected) if name])
    assert response.headers["X-Total-Count"] == str(number)
    assert names(await walk(api, f"/leads?limit=2&{query}&{wanted}")) == expected
    filters = re.sub("sort=[^&]*", "", query)
    exported = (await api.get(f"/leads/export?{wanted}&{filters.strip('&')}")).text
    assert exported.count("\n") == number


@pytest.mark.usefixtures("leads")
async def test_the_order_of_ids_makes_no_other_list(api: httpx.AsyncClient) -> None:
    ids = [lead["id"] for lead in (await api.get("/leads")).json()]
    first = await api.get("/leads", params={"id": ids[:4], "limit": 2})
    cursor = httpx.URL(first.links["next"]["url"]).params["after"]
    turned: dict[str, Any] = {"id": [*reversed(ids[:4]), ids[0]], "limit": 2, "after": cursor}
    assert [lead["id"] for lead in (await api.get("/leads", params=turned)).json()] == ids[2:4]
    refused = await api.get("/leads", params={**turned, "id": ids[:3]})
    assert (refused.status_code, list(refused.json()["errors"])) == (400, ["after"])


@pytest.mark.parametrize(
    ("ids", "errors"),
    [
        (["x"], {"id.0": "Must be a UUID"}),
        ([""], {"id.0": "Must be a UUID"}),
        ([str(UUID(int=1)), f"{UUID(int=2)},{UUID(int=3)}"], {"id.1": "Must be a UUID"}),
        ([str(UUID(int=number)) for number in range(101)], {"id": "Must have at most 100 items"}),
    ],
)
@pytest.mark.parametrize("address", ["/leads", "/leads/export"])
async def test_what_are_no_ids_is_refused(
    address: str, ids: list[str], errors: dict[str, str], aloof_api: httpx.AsyncClient
) -> None:
    answer = await aloof_api.get(address, params={"id": ids})
    assert (answer.status_code, answer.json()["errors"]) == (400, errors)


@pytest.mark.parametrize("sort", ["lastName", "-lastName"])
async def test_links_lead_through_the_longest_names(
    sort: str, database: Database, api: httpx.AsyncClient
) -> None:
    # One letter that is eighteen when it is folded, for each that a name may have.
    for number in range(1, 4):
        await insert_lead(database, last_name="\ufdfa" * 49 + str(number))
    pages = await walk(api, f"/leads?limit=1&sort={sort}&country=united%20kingdom&q=ada")
    found = [lead["lastName"][-1] for page in pages for lead in page]
    assert found == (["3", "2", "1"] if sort.startswith("-") else ["1", "2", "3"])


@pytest.mark.usefixtures("leads")
async def test_a_cursor_is_refused_in_another_list(api: httpx.AsyncClient) -> None:
    response = await api.get("/leads?limit=2&status=new&sort=lastName")
    link = response.links["next"]["url"]
    assert (await api.get(link.replace("limit=2", "limit=1"))).status_code == 200
    for other in (
        link.replace("status=new", "status=qualified"),
        link.replace("sort=lastName", "sort=-lastName"),
        link.replace("status=new&", ""),
    ):
        refused = await api.get(other)
        assert (refused.status_code, list(refused.json()["errors"])) == (400, ["after"])


@pytest.mark.parametrize(
    ("default", "query", "sizes"),
    [
        (100, "", [6]),
        (4, "", [4, 2]),
        (4, "?limit=5", [5, 1]),
        (2, "?status=new&sort=lastName", [2, 1]),
        (10_000, "", [6]),
    ],
)
@pytest.mark.usefixtures("leads")
async def test_the_length_of_a_page_is_a_setting(
    default: int, query: str, sizes: list[int], open_api: OpenApi
) -> None:
    async with open_api(list_default_limit=default) as api:
        pages = await walk(api, f"/leads{query}")
    assert [len(page) for page in pages] == sizes


async def test_a_setting_may_give_clients_more_than_they_may_ask_for(
    database: Database, open_api: OpenApi
) -> None:
    async with database.connection() as connection:
        await connection.execute(_MANY, 1300)
    async with open_api(list_default_limit=600) as api:
        assert [len(page) for page in await walk(api, "/leads")] == [600, 600, 100]
        assert (await api.get("/leads?limit=501")).status_code == 400


async def test_long_lists_are_compressed_for_who_accepts_that(
    database: Database, api: httpx.AsyncClient
) -> None:
    async with database.connection() as connection:
        await connection.execute(_MANY, 200)
    for limit, accept, is_compressed in (
        (1, "gzip", False),
        (50, "gzip", True),
        (200, "br, gzip;q=0.5", True),
        (200, "*", True),
        (200, "gzip;q=0, *", False),
        (200, "identity", False),
    ):
        response = await api.get(f"/leads?limit={limit}", headers={"Accept-Encoding": accept})
        assert len(response.json()) == limit
        length = int(response.headers["Content-Length"])
        assert (length < len(response.content)) == is_compressed, (limit, accept)
        assert ("Content-Encoding" in response.headers) == is_compressed
        assert ("Accept-Encoding" in response.headers.get("Vary", "")) == (limit > 1)
    head = await api.head("/leads?limit=200", headers={"Accept-Encoding": "gzip"})
    assert (head.headers["Content-Encoding"], head.content) == ("gzip", b"")


@pytest.mark.usefixtures("leads")
async def test_the_total_is_counted_when_asked_for(api: httpx.AsyncClient) -> None:
    assert "X-Total-Count" not in (await api.get("/leads?limit=1")).headers
    counted = await api.get("/leads?limit=1&count=exact")
    filtered = await api.get("/leads?limit=1&count=exact&status=new")
    assert counted.headers["X-Total-Count"] == "6"
    assert filtered.headers["X-Total-Count"] == "3"


@pytest.mark.parametrize("name", ["page", "Status", "created_after", "order"])
async def test_what_is_no_parameter_is_refused_by_name(name: str, api: httpx.AsyncClient) -> None:
    response = await api.get("/leads", params={name: "1", "status": "new"})
    assert (response.status_code, list(response.json()["errors"])) == (400, [name])


class TestPolling:
    """What is not committed yet may have an earlier stamp than what can be seen already."""

    @pytest.fixture
    async def late(self, database: Database) -> AsyncGenerator[Commit]:
        """Have Hopper changed and committed while an earlier change of Zuse waits for that."""
        async with contextlib.AsyncExitStack() as stack:
            connection = await stack.enter_async_context(database.transaction())
            await change(connection, "Zuse")
            await asyncio.sleep(0.005)
            async with database.transaction() as another:
                await change(another, "Hopper")
            yield stack.aclose

    @pytest.mark.parametrize("query", POLLS)
    @pytest.mark.usefixtures("leads")
    async def test_nothing_new_is_shown_before_all_that_is_older(
        self, query: str, late: Commit, api: httpx.AsyncClient
    ) -> None:
        assert changed(await walk(api, query)) == set()
        await late()
        await asyncio.sleep(0.002)
        assert changed(await walk(api, query)) == {"Zuse", "Hopper"}

    @pytest.mark.parametrize(
        "query", ["", "?sort=createdAt", "?sort=lastName", "?status=qualified"]
    )
    @pytest.mark.usefixtures("leads", "late")
    async def test_other_lists_are_as_fresh_as_can_be(
        self, query: str, api: httpx.AsyncClient
    ) -> None:
        assert changed(await walk(api, f"/leads{query}")) == {"Hopper"}

    @pytest.mark.usefixtures("leads")
    async def test_all_pages_end_where_the_first_one_does(
        self, database: Database, api: httpx.AsyncClient
    ) -> None:
        """What changes meanwhile has a later stamp than anything on them, and comes next time."""
        for name in ("Zuse", "Hopper", "Noether"):
            async with database.transaction() as connection:
                await change(connection, name)
        await asyncio.sleep(0.002)
        address = "/leads?limit=1&updatedAfter=2026-06-01&sort=lastName&count=exact"
        first = await api.get(address)
        async with database.transaction() as connection:
            await change(connection, "Hopper")
            await change(connection, "Zuse")
        await asyncio.sleep(0.002)
        rest = await walk(api, first.links["next"]["url"])
        assert [first.json()[0]["lastName"], names(rest)] == ["Hopper", "Noether"]
        newest = max(first.json()[0]["updatedAt"], rest[0][0]["updatedAt"])
        polled = (await api.get("/leads", params={"updatedAfter": newest})).json()
        assert {one["lastName"] for one in polled} == {"Noether", "Hopper", "Zuse"}

    @pytest.mark.usefixtures("leads")
    async def test_an_earlier_end_of_the_clients_own_stays(self, api: httpx.AsyncClient) -> None:
        pages = await walk(
            api,
            "/leads?limit=1&updatedAfter=2026-01-01T11:57Z&updatedBefore=2026-01-01T11:58:00.000001Z",
        )
        assert names(pages) == "Lovelace|Noether"


def changed(pages: list[list[dict[str, Any]]]) -> set[str]:
    return {lead["lastName"] for page in pages for lead in page if lead["city"] == "New"}


async def change(connection: Connection, name: str) -> None:
    await connection.execute(
        "UPDATE leads.lead SET city = 'New', created_at = stamp, updated_at = stamp "
        "FROM leads.stamp() AS stamp WHERE last_name = $1",
        name,
    )
