"""Tabs of the console on an API in this process, with its syncer."""

import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypedDict

import httpx
import pytest
from playwright.async_api import Browser, Page, ViewportSize
from pydantic import SecretStr

from tests.integration.api.handlers.admin.conftest import KEY
from tests.support.api import OpenApi
from tests.support.auth_server import AuthServer
from tests.support.browser import Scheme, Tab, open_browser, open_tab

SIZES = [(1600, 1000), (1280, 800), (360, 740)]

SCHEMES: list[Scheme] = ["light", "dark"]

OpenTab = Callable[..., AbstractAsyncContextManager[Tab]]


class Look(TypedDict):
    """How a tab is looked at, as options of the browser's."""

    color_scheme: Scheme
    viewport: ViewportSize


def looks_of(sizes: Iterable[tuple[int, int]]) -> list[Look]:
    """Return each size in both schemes."""
    return [
        {"color_scheme": scheme, "viewport": {"width": width, "height": height}}
        for width, height in sizes
        for scheme in SCHEMES
    ]


def id_of(look: Look) -> str:
    return f"{look['color_scheme']} {look['viewport']['width']}"


@pytest.fixture(params=looks_of(SIZES), ids=id_of)
def look(request: pytest.FixtureRequest) -> Look:
    """Return one after the other in which every screen is looked at."""
    given: Look = request.param
    return given


@pytest.fixture(scope="module")
async def browser() -> AsyncGenerator[Browser]:
    async with open_browser() as opened:
        yield opened


@pytest.fixture
def session(auth: AuthServer) -> dict[str, Any]:
    """Return a session as the console keeps it."""
    made = time.time() * 1000
    return {
        "access": auth.token(),
        "refresh": "none",
        "expires": made + 3_600_000,
        "made": made,
        "email": "ada@example.com",
    }


@pytest.fixture
def open_signed_in(browser: Browser, session: dict[str, Any]) -> OpenTab:
    """Return what opens a tab at an API, signed in; options are the browser's."""

    def open_(client: httpx.AsyncClient, **options: Any) -> AbstractAsyncContextManager[Tab]:
        url = str(client.base_url).rstrip("/")
        return open_tab(browser, url, session=session, **options)

    return open_


@pytest.fixture
async def tab(open_signed_in: OpenTab, client: httpx.AsyncClient) -> AsyncGenerator[Tab]:
    async with open_signed_in(client) as opened:
        yield opened


@pytest.fixture
async def operated(open_api: OpenApi, syncer: None) -> AsyncGenerator[httpx.AsyncClient]:  # noqa: ARG001
    """Yield a client, with the operators' key, of an API that has one."""
    async with open_api(api_key=SecretStr(KEY)) as opened:
        opened.headers["X-API-Key"] = KEY
        yield opened


async def enter_key(page: Page, key: str = KEY) -> None:
    """Answer the dialog that asks for the operators' key."""
    await page.get_by_label("Key", exact=True).fill(key)
    await page.keyboard.press("Enter")


async def check(tab: Tab, what: str) -> None:
    """Check what is on screen now: everyone can use it, and nothing scrolls sideways."""
    assert await tab.violations() == [], what
    assert not await tab.scrolls_sideways(), what
