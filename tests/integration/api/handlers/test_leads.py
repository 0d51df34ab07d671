"""`/leads` over HTTP, read: one by one and in lists."""

import asyncio
from uuid import uuid4

import httpx
import orjson
import pytest
from redis.asyncio import Redis

from shared.cache.lead_cache import PREFIX
from tests.integration.api.conftest import PATIENCE, create
from tests.support.api import OpenApi
from tests.support.builders import lead_body
from tests.support.raw_http import send_raw


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

    async def test_what_needs_a_leads_id_alone_leaves_the_cache_as_it_is(
        self, client: httpx.AsyncClient, redis: Redis
    ) -> None:
        lead = await create(client)
        await redis.delete(*await redis.keys(f"{PREFIX}*"))
        for key in (lead["id"], lead["externalId"]):
            assert (await client.get(f"/leads/{key}/summaries")).json() == []
        assert not await redis.keys(f"{PREFIX}*")

    @pytest.mark.parametrize(
        ("tag", "status"),
        [
            *(('"1"', 304), ('W/"1"', 304), ('"7", "1"', 304), ("*", 304), ('"1-gzip"', 304)),
            *(('"2"', 200), ('W/"2-br"', 200), ('"1,2"', 200), ('"2",,"1"', 304)),
        ],
    )
    async def test_a_current_copy_is_not_sent_again(
        self, tag: str, status: int, client: httpx.AsyncClient
    ) -> None:
        lead = await create(client)
        response = await client.get(f"/leads/{lead['id']}", headers={"If-None-Match": tag})
        assert (response.status_code, response.headers["ETag"]) == (status, '"1"')
        assert (response.content == b"") == (status == 304)

    @pytest.mark.parametrize("tags", ["1", '"1"junk', '"1" "2"', '*, "1"', ""])
    async def test_what_is_no_list_of_tags_is_refused(
        self, tags: str, client: httpx.AsyncClient
    ) -> None:
        path = f"/leads/{(await create(client))['id']}"
        read = await client.get(path, headers={"If-None-Match": tags})
        written = await client.patch(path, json={"city": "Paris"}, headers={"If-Match": tags})
        assert read.json()["errors"].keys() == {"If-None-Match"}
        assert written.json()["errors"].keys() == {"If-Match"}
        assert (read.status_code, written.status_code) == (400, 400)

    @pytest.mark.parametrize(
        ("method", "path", "name"),
        [
            ("GET", "/leads", "Authorization"),
            ("GET", "/changes", "Last-Event-ID"),
            ("POST", "/leads", "Idempotency-Key"),
            ("POST", "/leads/batch", "Idempotency-Key"),
            ("POST", "/leads", "Content-Type"),
            ("POST", "/leads", "Content-Length"),
        ],
    )
    async def test_a_header_of_one_value_is_not_taken_from_two_lines(
        self, method: str, path: str, name: str, client: httpx.AsyncClient
    ) -> None:
        """Nobody can tell which of them a proxy, or the sender, went by."""
        body = orjson.dumps(lead_body() if path == "/leads" else {"leads": [lead_body()]})
        usual = {
            "Authorization": client.headers["Authorization"],
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
        }
        first = usual.pop(name, "1-0")
        lines = "".join(f"{key}: {value}\r\n" for key, value in usual.items())
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{lines}"
        twice = f"{name}: {first}\r\n{name}: {first}1\r\n\r\n"
        answer = await send_raw(client, (head + twice).encode() + body)
        assert answer.status == 400
        assert answer.code in {"validation-failed", "malformed-request"}
        assert name in answer.body.decode()

    async def test_tags_on_several_lines_are_one_list(self, client: httpx.AsyncClient) -> None:
        lead = await create(client)
        lines = [("If-None-Match", '"7"'), ("If-None-Match", '"1"')]
        response = await client.get(f"/leads/{lead['id']}", headers=lines)
        assert response.status_code == 304

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


async def test_requests_of_one_client_do_not_wait_for_each_other(open_api: OpenApi) -> None:
    async with open_api(create_timeout=PATIENCE) as api:
        waiting = asyncio.create_task(api.post("/leads", json=lead_body()), name="waiting")
        assert (await api.get("/leads")).status_code == 200
        assert not waiting.done()
        waiting.cancel()
