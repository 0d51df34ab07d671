"""Sessions of the console: tabs that share one, and one that ends while somebody writes."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser

from services.api.settings import ApiSettings
from tests.support.api import RunSyncer, running_api
from tests.support.auth_project import running_project
from tests.support.browser import Tab, expect, needs_chromium, open_tab
from tests.support.eventually import eventually

pytestmark = [needs_chromium, pytest.mark.long]

ACCOUNT = {"email": "ada@example.com", "password": "correct horse battery"}
# A minute before its end a token is renewed: here that is every other second.
LIFETIME = timedelta(seconds=62)
RENEWALS = 4
# What plain HTTP in a local network does not have.
WITHOUT = """
for (const name of ['locks', 'clipboard']) {
  Object.defineProperty(Navigator.prototype, name, { value: undefined });
}
Crypto.prototype.randomUUID = undefined;
"""


# Timers stand still while a tab is asleep, and what they had to do is done when it wakes.
SLEEPS = """
const begin = window.setTimeout.bind(window);
const parked = [];
window.setTimeout = (act, time) =>
  begin(() => (window.isAsleep ? parked.push(act) : act()), time);
window.wake = () => {
  window.isAsleep = false;
  for (const act of parked.splice(0)) act();
};
"""


@pytest.fixture
async def anyone(
    api_settings: ApiSettings, tmp_path: Path, run_syncer: RunSyncer
) -> AsyncGenerator[httpx.AsyncClient]:
    """Yield a client of an API with one account, where a refresh token serves once."""
    once = timedelta(milliseconds=1)
    async with (
        running_project(tmp_path, jwt_exp=LIFETIME, refresh_token_reuse_interval=once) as project,
        run_syncer(),
        running_api(project.settings(api_settings)) as client,
    ):
        assert (await client.post("/authentication/signup", json=ACCOUNT)).status_code == 201
        yield client


async def sign_in(tab: Tab) -> None:
    await tab.page.get_by_label("E-mail").fill(ACCOUNT["email"])
    await tab.page.get_by_label("Password").fill(ACCOUNT["password"])
    await tab.page.get_by_role("button", name="Sign in").click()


async def session_of(tab: Tab) -> dict[str, Any]:
    session: dict[str, Any] = await tab.page.evaluate(
        "JSON.parse(sessionStorage.getItem('leads.session'))"
    )
    return session


async def is_another(tab: Tab, refresh: str) -> bool:
    return bool((await session_of(tab))["refresh"] != refresh)


async def are_alike(first: Tab, second: Tab) -> bool:
    return await session_of(first) == await session_of(second)


@pytest.mark.parametrize("script", ["", WITHOUT], ids=["with locks", "plain HTTP"])
async def test_tabs_renew_one_session(
    script: str, browser: Browser, anyone: httpx.AsyncClient
) -> None:
    url = str(anyone.base_url).rstrip("/")
    context = await browser.new_context()
    await context.add_init_script(script or "0")
    async with open_tab(context, url) as first, open_tab(context, url) as second:
        await first.open("/leads")
        await sign_in(first)
        await expect(first.page.get_by_text("There are no leads yet")).to_be_visible()
        # A new tab has the session of those that are open.
        await second.page.add_init_script(SLEEPS)
        await second.open("/leads")
        await expect(second.page.get_by_text("There are no leads yet")).to_be_visible()
        # Browsers let tabs that nobody looks at sleep. To come back with a token whose successor
        # has been used would end the session everywhere.
        await eventually(partial(is_another, first, (await session_of(first))["refresh"]))
        await second.page.evaluate("window.isAsleep = true")
        seen = set[str]()

        async def has_been_renewed() -> bool:
            seen.add((await session_of(first))["refresh"])
            return len(seen) > RENEWALS

        await eventually(has_been_renewed, within=timedelta(seconds=60))
        await second.page.evaluate("window.wake()")
        await eventually(partial(are_alike, first, second), within=timedelta(seconds=20))
        for tab in (first, second):
            await tab.page.reload()
            await expect(tab.page.get_by_text("There are no leads yet")).to_be_visible()
        # One that leaves takes the others along.
        await first.page.locator(".who").click()
        await first.page.get_by_role("button", name="Sign out").click()
        await expect(second.page).to_have_title("Sign in · Leads")
    await context.close()


async def test_a_session_that_ends_keeps_the_draft(
    browser: Browser, anyone: httpx.AsyncClient
) -> None:
    url = str(anyone.base_url).rstrip("/")
    async with open_tab(browser, url) as tab:
        page = tab.page
        await tab.open("/leads/new?status=new")
        await sign_in(tab)
        await page.get_by_label("First name").fill("Kept")
        await page.get_by_label("Last name").fill("Draft")
        await page.get_by_role("textbox", name="E-mail").fill("kept@example.com")
        token = (await session_of(tab))["access"]
        answer = await anyone.post(
            "/authentication/logout", headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.status_code == 204
        dialog = page.get_by_role("dialog", name="Your session has ended")
        await expect(dialog).to_be_visible()
        assert await tab.violations() == []
        await dialog.get_by_label("E-mail").fill(ACCOUNT["email"])
        await dialog.get_by_label("Password").fill(ACCOUNT["password"])
        await dialog.get_by_role("button", name="Sign in", exact=True).click()
        await expect(dialog).to_have_count(0)
        await page.get_by_label("First name").press("Control+Enter")
        await expect(page.get_by_role("heading", name="Kept Draft")).to_be_focused()
        assert "status=new" in page.url
