"""`/console` over HTTP: the page at every screen's address, its files for ever, and no others."""

import hashlib
import re
from collections.abc import AsyncGenerator
from enum import StrEnum
from pathlib import Path

import httpx
import pytest

from services.api.settings import ApiSettings
from shared.domain.lead import LeadSource, LeadStatus
from tests.support.api import running_api
from tests.support.repository import ROOT

CONSOLE = ROOT / "services/api/console"
# As browsers send it on their way to a page.
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
MOST_SENT = 150_000


@pytest.fixture
async def anyone(api_settings: ApiSettings) -> AsyncGenerator[httpx.AsyncClient]:
    """Yield a client that is not signed in. No document describes what it asks for."""
    async with running_api(api_settings) as client:
        client.event_hooks = {}
        yield client


async def files_of(page: str, client: httpx.AsyncClient) -> dict[str, httpx.Response]:
    """Return what a page of the console loads, at once and with its screens, by address."""
    links: list[str] = re.findall(r'(?:src|href)="([^"]+)"', page)
    files: dict[str, httpx.Response] = {}
    while links:
        link = links.pop()
        if link not in files:
            files[link] = await client.get(link)
            links += imports_of(link, files[link])
    return files


def imports_of(link: str, file: httpx.Response) -> list[str]:
    """Return the addresses of the modules that a module imports."""
    targets: list[str] = re.findall(r'(?:\bfrom ?|await import\()"(\.[^"]+)"', file.text)
    return [httpx.URL(f"http://console{link}").join(target).path for target in targets]


@pytest.mark.parametrize(("name", "values"), [("STATUSES", LeadStatus), ("SOURCES", LeadSource)])
def test_it_lets_people_choose_from_all_that_there_is(name: str, values: type[StrEnum]) -> None:
    listed = re.search(rf"{name} = [^\[]*\[(.*?)\]", (CONSOLE / "format.js").read_text(), re.DOTALL)

    assert listed
    assert re.findall(r'"(.*?)"', listed[1]) == list(values)


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "/leads", "/leads/new", "/leads/0192f4c4-3b5e-7c3a-9d58-0a4a3a1f6b1e"),
        *("/leads?q=%3Cscript%3E&status=new", "/import", "/import/0192f4c4", "/sign-in?next=x"),
        *("/streams", "/dead-letters/1732440612345-0", "/replays/new", "/syncs", "/doctor"),
    ],
)
async def test_every_screen_is_the_page(path: str, anyone: httpx.AsyncClient) -> None:
    answer = await anyone.get(f"/console{path}", headers=BROWSER)

    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-cache"
    again = {**BROWSER, "If-None-Match": answer.headers["ETag"]}
    assert (await anyone.get(f"/console{path}", headers=again)).status_code == 304


@pytest.mark.parametrize(
    "path",
    [
        *("/nowhere", "/leads/1/2", "/streams/1", "/leads/%2e%2e", "/main.js", "/style/base.css"),
        *("/serving.py", "/..%2f..%2fsettings.py", "/%2e%2e/%2e%2e/settings.py"),
        *("/0123456789abcdef/main.js", "/{release}/index.html", "/{release}/serving.py"),
        *("/{release}/vendor/README.md", "/{release}/../../settings.py", "/{release}/"),
    ],
)
async def test_there_is_nothing_else(path: str, anyone: httpx.AsyncClient) -> None:
    release = (await anyone.head("/console")).headers["ETag"].strip('"').removesuffix("-gzip")
    url = httpx.URL(str(anyone.base_url)).copy_with(
        raw_path=f"/console{path.replace('{release}', release)}".encode()
    )
    answer = await anyone.get(url, headers=BROWSER)

    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


async def test_files_keep_for_ever_and_weigh_little(anyone: httpx.AsyncClient) -> None:
    page = await anyone.get("/console")
    files = await files_of(page.text, anyone)

    assert len(files) > 30
    for link, answer in files.items():
        assert answer.status_code == 200, link
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["Content-Encoding"] == "gzip"
        assert link.startswith("/console/")
    sent = [int(answer.headers["Content-Length"]) for answer in (page, *files.values())]
    assert sum(sent) < MOST_SENT


async def test_what_a_module_imports_is_there(anyone: httpx.AsyncClient) -> None:
    files = await files_of((await anyone.get("/console")).text, anyone)
    scripts = {link: answer.text for link, answer in files.items() if link.endswith(".js")}

    assert {"import.js", "dead-letters.js"} <= {link.rpartition("/")[2] for link in scripts}
    assert {answer.status_code for answer in files.values()} == {200}
    assert not any('preact"' in script for script in scripts.values())


async def test_the_page_runs_nothing_but_its_files(anyone: httpx.AsyncClient) -> None:
    page = await anyone.get("/console")
    policy = page.headers["Content-Security-Policy"]

    assert "default-src 'none'" in policy
    assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy
    assert not re.search(r"unsafe|http|\*|data:", policy)
    assert re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=", page.text) is None


@pytest.mark.parametrize(
    ("accept", "status"),
    [(BROWSER["Accept"], 302), ("text/html", 302), ("*/*", 404), ("application/json", 404)],
)
async def test_browsers_are_sent_there(accept: str, status: int, anyone: httpx.AsyncClient) -> None:
    answer = await anyone.get("/", headers={"Accept": accept})

    assert answer.status_code == status
    assert (answer.headers.get("Location") == "/console") == (status == 302)


async def test_a_page_that_is_loaded_often_is_not_refused(api_settings: ApiSettings) -> None:
    """The limit of an address is all its people's: forty files a load would use it up."""
    async with running_api(api_settings) as client:
        client.event_hooks = {}
        assert "RateLimit" not in (await client.get("/console")).headers


def test_libraries_are_as_published() -> None:
    vendor = CONSOLE / "vendor"
    notice = (vendor / "README.md").read_text()
    digests = {
        name: digest
        for digest, name in re.findall(r"^([0-9a-f]{64})  (\S+)$", notice, re.MULTILINE)
    }

    assert digests.keys() == {path.name for path in vendor.glob("*.js")}
    for name, digest in digests.items():
        content = (vendor / name).read_text().replace('from"./preact.js"', 'from"preact"')
        assert hashlib.sha256(content.encode()).hexdigest() == digest, name
        assert f"| `{name}` |" in notice


WRITES_MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc"
    r"|DOMParser|javascript:|localStorage\.setItem\([^)]*(?:session|token)"
)
OWN = [
    path
    for path in sorted(CONSOLE.rglob("*.js"))
    if "vendor" not in path.relative_to(CONSOLE).parts
]


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_scripts_write_text_and_no_markup(path: Path) -> None:
    text = path.read_text()

    assert WRITES_MARKUP.search(text) is None
    assert text.startswith("// "), "a module says first what it is for"
    assert ("fetch(" in text) == (path.name == "api.js")
