"""Every screen of the console can be used by everyone: axe, both themes, wide and narrow."""

import httpx
import pytest
from playwright.async_api import Browser

from tests.integration.api.console.conftest import Look, OpenTab, check
from tests.support.browser import expect, needs_chromium, open_tab
from tests.support.builders import lead_body

pytestmark = [needs_chromium, pytest.mark.long]

CSV = "Given Name;E-Mail;Surname;Notes\nAda;ada.csv@example.com;King;call\nBob;no;Ross;\n"


async def test_signing_in(look: Look, browser: Browser, client: httpx.AsyncClient) -> None:
    url = str(client.base_url).rstrip("/")
    async with open_tab(browser, url, **look) as tab:
        await tab.open("/leads?status=new")
        await expect(tab.page).to_have_title("Sign in · Leads")
        await check(tab, "sign in")
        await tab.page.get_by_role("link", name="Sign up").click()
        await expect(tab.page.get_by_role("heading", name="Make an account")).to_be_visible()
        await check(tab, "sign up")
        await tab.page.get_by_role("button", name="Sign up").click()
        await expect(tab.page.locator("[aria-invalid]").first).to_be_focused()
        await check(tab, "errors")


async def test_leads(look: Look, client: httpx.AsyncClient, open_signed_in: OpenTab) -> None:
    async with open_signed_in(client, **look) as tab:
        page = tab.page
        await tab.open("/leads")
        await expect(page.get_by_text("There are no leads yet")).to_be_visible()
        await check(tab, "empty")
        rows = [lead_body(lastName="W" * 50, city="Wien" * 12, phone=None) for _ in range(12)]
        assert (await client.post("/leads/batch", json={"leads": rows})).status_code == 207
        await page.get_by_role("button", name="12 new leads").click()
        await expect(page.locator("tbody tr")).to_have_count(12)
        await page.locator("tbody input").first.check()
        await check(tab, "list with a selection")
        await page.get_by_text("+ Filter").click()
        await check(tab, "filters")
        await page.keyboard.press("Escape")
        await page.locator("tbody a.name").first.click()
        await expect(page.locator(".values")).to_be_visible()
        await check(tab, "drawer")
        await page.get_by_role("tab", name="History").click()
        await expect(page.get_by_role("list", name="History")).to_be_visible()
        await check(tab, "history")
        await page.keyboard.press("e")
        await page.get_by_role("textbox", name="E-mail").fill("none")
        await page.keyboard.press("Control+Enter")
        await expect(page.locator(".field .error")).to_be_visible()
        await check(tab, "form with an error")
        await page.get_by_role("button", name="Cancel").click()
        await page.get_by_role("tabpanel").get_by_role("button", name="Delete").click()
        await expect(page.get_by_role("dialog")).to_be_visible()
        await check(tab, "deletion")
        await page.keyboard.press("Escape")
        await page.keyboard.press("?")
        await expect(page.get_by_role("dialog")).to_be_visible()
        await check(tab, "help")
        await tab.open("/leads?q=nobody")
        await expect(page.get_by_text("No lead matches")).to_be_visible()
        await check(tab, "no match")
        await tab.open("/leads/0192f4c4-3b5e-7c3a-9d58-0a4a3a1f6b1e")
        await expect(page.get_by_text("There is no such lead")).to_be_visible()
        await check(tab, "no lead")


async def test_import(look: Look, client: httpx.AsyncClient, open_signed_in: OpenTab) -> None:
    async with open_signed_in(client, **look) as tab:
        page = tab.page
        await tab.open("/import")
        await check(tab, "beginning")
        await tab.choose_file("leads.csv", CSV)
        await expect(page.locator(".preview")).to_be_visible()
        await page.get_by_role("button", name="Dry run").click()
        await expect(page.locator(".row-errors")).to_contain_text("row 2")
        await check(tab, "dry run")
