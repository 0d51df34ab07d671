"""Random User's API: its shapes, its parameters and its quirks."""

import json
import re
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from yarl import URL

from devstack.standins.randomuser import RandomUserSettings, create_app
from devstack.standins.serving import running

SAMPLE = Path(__file__).parents[3] / "support" / "samples" / "randomuser-20.json"


@pytest.fixture
def sample() -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", json.loads(SAMPLE.read_text())["results"])


async def fetch(http: httpx.AsyncClient, url: URL, **parameters: object) -> dict[str, Any]:
    answer = await http.get(
        str(url / "api/"), params={name: str(value) for name, value in parameters.items()}
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/json")
    return cast("dict[str, Any]", answer.json())


def shape(value: object) -> object:
    """The names and types of a value, in order, all the way down."""
    if isinstance(value, dict):
        parts = cast("dict[str, object]", value)
        return {name: shape(part) for name, part in parts.items()}
    return type(value).__name__


async def test_users_have_the_originals_shape(
    http: httpx.AsyncClient, randomuser_url: URL, sample: list[dict[str, Any]]
) -> None:
    made_up = (await fetch(http, randomuser_url, results=1000, seed="s"))["results"]
    original = {json.dumps(shape(user)) for user in sample}
    # Three shapes: an id without a value and a post code in letters are the exceptions.
    assert len(original) == 3
    assert {json.dumps(shape(user)) for user in made_up} == original


async def test_users_have_the_originals_quirks(
    http: httpx.AsyncClient, randomuser_url: URL
) -> None:
    users = (await fetch(http, randomuser_url, results=2000, seed="s"))["results"]
    for kind in (int, str):
        assert any(isinstance(user["location"]["postcode"], kind) for user in users)
    assert any(user["id"] == {"name": "", "value": None} for user in users)
    assert any(re.search("[A-Z]", user["phone"]) for user in users)
    assert any(len(user["name"]["last"]) == 1 for user in users)
    assert any(not user["name"]["first"].isascii() for user in users)
    assert any("undefined" in (user["id"]["value"] or "") for user in users)
    assert len({user["nat"] for user in users}) == 21
    for user in users:
        assert re.fullmatch(r"[!-?A-~]+\.[!-?A-~]+@example\.com", user["email"])
        assert not re.search(r"[A-Z]|\.\.|\.@", user["email"])
        assert 7 <= len(user["phone"]) <= 20
        assert 7 <= len(user["cell"]) <= 20


async def test_the_same_seed_and_page_are_the_same_people(
    http: httpx.AsyncClient, randomuser_url: URL
) -> None:
    first = await fetch(http, randomuser_url, results=5, seed="abc")
    assert first == await fetch(http, randomuser_url, results=5, seed="abc")
    assert first["info"] == {"seed": "abc", "results": 5, "page": 1, "version": "1.4"}
    second = await fetch(http, randomuser_url, results=5, seed="abc", page=2)
    assert second["results"] != first["results"]
    assert second["info"]["page"] == 2


async def test_without_a_seed_there_is_a_fresh_one(
    http: httpx.AsyncClient, randomuser_url: URL
) -> None:
    first, second = [await fetch(http, randomuser_url) for _ in range(2)]
    assert len(first["results"]) == 1
    assert re.fullmatch("[0-9a-f]{16}", first["info"]["seed"])
    assert first["results"] != second["results"]
    again = await fetch(http, randomuser_url, seed=first["info"]["seed"])
    assert again["results"] == first["results"]


async def test_a_seed_carries_its_nationality(http: httpx.AsyncClient, randomuser_url: URL) -> None:
    finns = await fetch(http, randomuser_url, results=5, nat="fi")
    assert {user["nat"] for user in finns["results"]} == {"FI"}
    assert len(finns["info"]["seed"]) == 18
    again = await fetch(http, randomuser_url, results=5, seed=finns["info"]["seed"])
    assert again["results"] == finns["results"]


async def test_nationalities_and_gender_are_filtered_and_unknown_ones_ignored(
    http: httpx.AsyncClient, randomuser_url: URL
) -> None:
    users = (await fetch(http, randomuser_url, results=40, nat="us,GB", gender="female"))["results"]
    assert {user["nat"] for user in users} == {"US", "GB"}
    assert {user["gender"] for user in users} == {"female"}
    seeded = await fetch(http, randomuser_url, results=40, gender="female", seed="s")
    assert {user["gender"] for user in seeded["results"]} == {"female", "male"}
    any_nat = (await fetch(http, randomuser_url, results=40, nat="us,xx"))["results"]
    assert len({user["nat"] for user in any_nat}) > 3


async def test_fields_are_included_and_excluded(
    http: httpx.AsyncClient, randomuser_url: URL
) -> None:
    some = await fetch(http, randomuser_url, inc="name, EMAIL,login", exc="login", noinfo="")
    assert set(some) == {"results"}
    assert set(some["results"][0]) == {"name", "email"}


@pytest.mark.parametrize("results", ["0", "-1", "5001", "many", ""])
async def test_a_senseless_number_of_results_is_one(
    http: httpx.AsyncClient, randomuser_url: URL, results: str
) -> None:
    assert len((await fetch(http, randomuser_url, results=results))["results"]) == 1


async def test_five_thousand_results_are_answered(
    http: httpx.AsyncClient, randomuser_url: URL
) -> None:
    assert len((await fetch(http, randomuser_url, results=5000))["results"]) == 5000


async def test_serves_the_users_of_a_file_page_by_page(
    http: httpx.AsyncClient, sample: list[dict[str, Any]]
) -> None:
    settings = RandomUserSettings(users_file=SAMPLE)
    async with running(create_app(settings), settings) as url:
        pages = [
            (await fetch(http, url, results=8, page=page, seed="x"))["results"]
            for page in (1, 2, 3, 4)
        ]
    assert [len(page) for page in pages] == [8, 8, 4, 0]
    assert [user for page in pages for user in page] == sample


async def test_answers_under_its_other_addresses(
    http: httpx.AsyncClient, randomuser_url: URL
) -> None:
    for path in ("api", "api/1.4", "api/1.4/"):
        assert (await http.get(str(randomuser_url / path))).status_code == 200
    assert (await http.get(str(randomuser_url / "api/0.0"))).status_code == 404


async def test_a_format_it_does_not_have_is_an_error(
    http: httpx.AsyncClient, randomuser_url: URL
) -> None:
    answer = await http.get(str(randomuser_url / "api/"), params={"format": "xml"})
    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_fails_on_demand_as_the_original_does(
    http: httpx.AsyncClient, randomuser_url: URL, status: int
) -> None:
    await http.post(str(randomuser_url / "_control"), json={"status": status})
    answer = await http.get(str(randomuser_url / "api/"))
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}


async def test_answers_the_body_it_is_given(http: httpx.AsyncClient, randomuser_url: URL) -> None:
    await http.post(str(randomuser_url / "_control"), json={"body": '{"results": null}'})
    assert await fetch(http, randomuser_url) == {"results": None}
