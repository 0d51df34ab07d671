"""GET /leads: what its parameters do, and where its links lead."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from shared.storage.pool import Database
from tests.support.lead_table import insert_lead

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


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
