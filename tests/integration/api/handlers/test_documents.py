"""`/openapi.json`, `/asyncapi.json` and `/docs` over HTTP: open to all, cached, self-contained."""

import hashlib
import json
import re
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from services.api.documents import asyncapi_json, openapi_json
from tests.support.contract import Contract, Seen, contract
from tests.support.repository import ROOT

VIEWER = ROOT / "services/api/docs"
PLACES = ["/openapi.json", "/asyncapi.json", "/docs", "/docs/swagger-ui.css", "/docs/page.js"]


@pytest.fixture
async def anyone(api: httpx.AsyncClient) -> httpx.AsyncClient:
    """Return a client that is not signed in."""
    del api.headers["Authorization"]
    return api


async def test_the_documents_are_those_of_this_version(anyone: httpx.AsyncClient) -> None:
    assert (await anyone.get("/openapi.json")).content == openapi_json()
    assert (await anyone.get("/asyncapi.json")).content == asyncapi_json()


@pytest.mark.parametrize("path", PLACES)
@pytest.mark.parametrize("encoding", ["gzip", "identity"])
async def test_they_are_cached(path: str, encoding: str, anyone: httpx.AsyncClient) -> None:
    headers = {"Accept-Encoding": encoding}
    response = await anyone.get(path, headers=headers)
    assert response.status_code == 200
    assert response.headers["Cache-Control"].startswith("public, max-age=")
    assert response.headers["Vary"] == "Accept-Encoding"
    assert (response.headers.get("Content-Encoding") == "gzip") == (encoding == "gzip")

    again = await anyone.get(path, headers={**headers, "If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == response.headers["ETag"]


@pytest.mark.parametrize("path", PLACES)
async def test_tags_are_read_as_they_are_of_leads(path: str, anyone: httpx.AsyncClient) -> None:
    etag = (await anyone.get(path)).headers["ETag"]
    of_tags = {f'"1,2" ,, W/{etag}': 304, "*": 304, '"1"': 200, f"{etag}junk": 400}
    for tags, status in of_tags.items():
        answer = await anyone.get(path, headers={"If-None-Match": tags})
        assert answer.status_code == status


@pytest.mark.parametrize("path", PLACES)
async def test_both_encodings_hold_the_same_under_tags_of_their_own(
    path: str, anyone: httpx.AsyncClient
) -> None:
    plain, compressed = [
        await anyone.get(path, headers={"Accept-Encoding": encoding})
        for encoding in ("gzip;q=0, identity", "br, gzip;q=0.5")
    ]
    assert plain.content == compressed.content
    assert int(compressed.headers["Content-Length"]) < len(plain.content)
    assert plain.headers["ETag"] != compressed.headers["ETag"]


async def test_the_page_needs_nothing_from_elsewhere(anyone: httpx.AsyncClient) -> None:
    page = await anyone.get("/docs")
    links: list[str] = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(links) > 5
    for link in links:
        parts = urlsplit(link)
        assert (parts.scheme, parts.netloc) == ("", ""), link
        assert (await anyone.get(link)).status_code == 200, link
    assert re.search(r"<script(?![^>]*src=)|<style|\son\w+=", page.text) is None
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


async def test_no_other_file_is_served(anyone: httpx.AsyncClient) -> None:
    for name in ("NOTICE", "swagger-ui.css.gz", "..%2Fapp.py", "index.html"):
        response = await anyone.get(f"/docs/{name}")
        assert (response.status_code, response.json()["code"]) == (404, "not-found")


async def test_the_viewer_is_as_published(anyone: httpx.AsyncClient) -> None:
    notice = (VIEWER / "NOTICE").read_text()
    published = dict(re.findall(r"^([0-9a-f]{64})  (\S+)$", notice, re.MULTILINE))
    assert len(published) == 3
    for digest, name in published.items():
        content = (await anyone.get(f"/docs/{name}")).content
        assert hashlib.sha256(content).hexdigest() == digest, name


def lead_seen(**changes: object) -> Seen:
    """Return an answer as described, with changes to its members; None leaves one out."""
    document = json.loads(openapi_json())
    lead = document["components"]["schemas"]["Lead"]["examples"][0]
    body = {name: value for name, value in (lead | changes).items() if value is not ...}
    return Seen(
        method="GET",
        path="/leads/7",
        status=200,
        headers={"content-type": "application/json", "etag": '"2"', "x-request-id": "1"},
        body=json.dumps(body).encode(),
    )


class TestTheJudge:
    """Every answer in the API's tests is held against the document; it must find what is wrong."""

    def test_an_answer_as_described_passes(self) -> None:
        contract().check(lead_seen())

    @pytest.mark.parametrize(
        ("changes", "fault"),
        [
            ({"age": 7}, "'age' was unexpected"),
            ({"email": ...}, '"email" is a required property'),
            ({"version": "2"}, '"2" is not of type "integer"'),
            ({"status": "lost"}, '"lost" is not one of'),
            ({"createdAt": "yesterday"}, '"yesterday" is not a "date-time"'),
        ],
    )
    def test_a_body_that_is_not_as_described_fails(
        self, changes: dict[str, Any], fault: str
    ) -> None:
        with pytest.raises(AssertionError, match=fault):
            contract().check(lead_seen(**changes))

    @pytest.mark.parametrize(
        ("changes", "fault"),
        [
            ({"status": 418}, "the status is not there"),
            ({"headers": {"content-type": "text/html"}}, "the header ETag is missing"),
            ({"headers": {"content-type": "text/html"}}, "the media type text/html is not there"),
            ({"headers": {"x-powered-by": "luck"}}, "the header x-powered-by is not there"),
            ({"status": 304}, "there should be no body"),
            ({"method": "TRACE"}, "a problem was expected"),
            ({"path": "/nowhere"}, "a problem was expected"),
            ({"status": 404}, "media type application/json is not there"),
        ],
    )
    def test_an_answer_that_is_not_as_described_fails(
        self, changes: dict[str, Any], fault: str
    ) -> None:
        with pytest.raises(AssertionError, match=fault):
            contract().check(replace(lead_seen(), **changes))

    def test_a_problem_of_another_operation_fails(self) -> None:
        document = json.loads(openapi_json())
        problem = document["components"]["responses"]["operation-not-found"]["content"]
        example = problem["application/problem+json"]["examples"]["operation-not-found"]["value"]
        seen = replace(
            lead_seen(),
            status=404,
            headers={"content-type": "application/problem+json", "x-request-id": "1"},
            body=json.dumps(example).encode(),
        )
        Contract(document).check(replace(seen, path="/operations/7"))
        with pytest.raises(AssertionError, match='"operation-not-found" is not one of'):
            Contract(document).check(seen)
