"""What tabs show is what there is: seven beside each other, missed changes, answers of before."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, Request, Route
from redis.asyncio import Redis

from devstack.free_ports import free_port
from services.api.settings import ApiSettings
from shared.events.catalog import CHANGES
from tests.integration.api.console.conftest import OpenTab
from tests.support.api import OpenApi, running_api
from tests.support.auth_server import AuthServer
from tests.support.browser import PATIENCE_MS, Tab, expect, needs_chromium, open_tab
from tests.support.builders import lead_body
from tests.support.eventually import eventually

pytestmark = [needs_chromium, pytest.mark.long]

# As many as HTTP/1.1 has connections to a host, and one more.
TABS = 7


async def test_seven_tabs_share_one_stream(
    browser: Browser, session: dict[str, Any], client: httpx.AsyncClient
) -> None:
    lead = (await client.post("/leads", json=lead_body())).json()
    url = str(client.base_url).rstrip("/")
    open_streams: set[Request] = set()

    def begin(request: Request) -> None:
        if request.url.endswith("/changes"):
            open_streams.add(request)

    def end(request: Request) -> None:
        open_streams.discard(request)

    async def is_one_left() -> bool:
        return sum(not request.frame.page.is_closed() for request in open_streams) == 1

    async def change(status: str, tabs: list[Tab]) -> None:
        answer = await client.patch(f"/leads/{lead['id']}", json={"status": status})
        assert answer.status_code == 200
        for tab in tabs:
            row = tab.page.locator("tbody tr")
            await expect(row).to_contain_text(status, timeout=3 * PATIENCE_MS)

    async with await browser.new_context() as context, AsyncExitStack() as stack:
        context.on("request", begin)
        context.on("requestfailed", end)
        context.on("requestfinished", end)
        tabs = [
            await stack.enter_async_context(open_tab(context, url, session=session))
            for _ in range(TABS)
        ]
        for tab in tabs:
            await tab.open("/leads")
            await expect(tab.page.locator("tbody tr")).to_contain_text("new")
            await expect(tab.page.get_by_text("Live", exact=True)).to_be_attached()
        await eventually(is_one_left)
        await change("contacted", tabs)
        # The one that follows for all is closed, and another goes on where it was.
        await tabs[0].page.close()
        await change("qualified", tabs[1:])
        await eventually(is_one_left)
        # Who is loaded anew hears what the others do.
        await tabs[2].page.reload()
        await expect(tabs[2].page.locator("tbody tr")).to_contain_text("qualified")
        await change("converted", tabs[1:])


@pytest.mark.parametrize("kept", [1, 2])
async def test_what_was_missed_is_read_anew(
    kept: int,
    api_settings: ApiSettings,
    auth: AuthServer,
    open_api: OpenApi,
    redis: Redis,
    syncer: None,  # noqa: ARG001
    open_signed_in: OpenTab,
) -> None:
    http = api_settings.http.model_copy(update={"port": free_port()})
    settings = replace(api_settings, http=http)
    async with AsyncExitStack() as stack:
        async with running_api(settings, token=auth.token()) as client:
            rows = [lead_body(city="Bonn") for _ in range(3)]
            written = (await client.post("/leads/batch", json={"leads": rows})).json()["results"]
            changed, deleted, stays = (row["lead"] for row in written)
            tab = await stack.enter_async_context(open_signed_in(client))
            page = tab.page
            await tab.open(f"/leads/{changed['id']}")
            await expect(page.locator("tbody tr")).to_have_count(3)
            await expect(page.locator(".values")).to_contain_text("Bonn")
            await expect(page.get_by_text("Live", exact=True)).to_be_attached()
        await expect(page.get_by_text("Not connected")).to_be_attached()
        async with open_api() as other:
            body = {"city": "Paris", "status": "qualified"}
            assert (await other.patch(f"/leads/{changed['id']}", json=body)).status_code == 200
            assert (await other.delete(f"/leads/{deleted['id']}")).status_code == 204
            assert (await other.post("/leads", json=lead_body(lastName="Later"))).status_code == 201
            # What tells of the first of them is no longer kept.
            await redis.xtrim(CHANGES, maxlen=kept, approximate=False)
        async with running_api(settings, token=auth.token()):
            row = page.locator(f"tr[data-id='{changed['id']}']")
            await expect(row).to_contain_text("qualified", timeout=3 * PATIENCE_MS)
            await expect(row).to_contain_text("Paris")
            await expect(page.locator(".values")).to_contain_text("Paris")
            await expect(page.locator("tbody tr")).to_have_count(3)
            await expect(page.locator(f"tr[data-id='{deleted['id']}']")).to_have_count(0)
            await expect(page.locator(f"tr[data-id='{stays['id']}']")).to_have_count(1)
            await expect(page.get_by_role("link", name="Later")).to_be_visible()
            await stack.aclose()


async def test_a_change_between_the_list_and_the_stream_is_not_lost(
    tab: Tab, client: httpx.AsyncClient
) -> None:
    lead = (await client.post("/leads", json=lead_body())).json()
    page = tab.page
    may_follow = asyncio.Event()

    async def hold(route: Route) -> None:
        await may_follow.wait()
        await route.continue_()

    await page.route("**/changes", hold)
    await tab.open("/leads")
    await expect(page.locator("tbody tr")).to_contain_text("new")
    await client.patch(f"/leads/{lead['id']}", json={"status": "contacted"})
    may_follow.set()
    await expect(page.locator("tbody tr")).to_contain_text("contacted")


async def test_the_next_page_is_no_older_than_its_changes(
    tab: Tab, client: httpx.AsyncClient
) -> None:
    rows = [lead_body() for _ in range(101)]
    written = (await client.post("/leads/batch", json={"leads": rows})).json()["results"]
    page = tab.page
    await tab.open("/leads?sort=createdAt")
    await expect(page.locator("tbody tr")).to_have_count(100)
    await expect(page.get_by_text("Live", exact=True)).to_be_attached()
    shown = set(await page.locator("tbody tr").evaluate_all("all => all.map(x => x.dataset.id)"))
    [hidden] = {row["lead"]["id"] for row in written} - shown
    seen = shown.pop()
    # The page behind this one has been read already; what is on screen comes after its change.
    for lead_id in (hidden, seen):
        await client.patch(f"/leads/{lead_id}", json={"status": "contacted"})
    await expect(page.locator(f"tr[data-id='{seen}']")).to_contain_text("contacted")
    await page.get_by_role("button", name="Next page").click()
    await expect(page.locator("tbody tr")).to_have_count(1)
    await expect(page.locator("tbody tr")).to_contain_text("contacted")


async def test_a_lead_that_is_deleted_while_it_is_open(tab: Tab, client: httpx.AsyncClient) -> None:
    lead = (await client.post("/leads", json=lead_body())).json()
    page = tab.page
    await tab.open(f"/leads/{lead['id']}")
    await expect(page.locator(".values")).to_be_visible()
    await expect(page.get_by_text("Live", exact=True)).to_be_attached()
    await client.delete(f"/leads/{lead['id']}")
    await expect(page.get_by_text("There is no such lead")).to_be_visible()
    await expect(page.locator("tbody tr")).to_contain_text("Deleted meanwhile")


async def test_a_late_answer_leads_nobody_away(tab: Tab) -> None:
    page = tab.page
    may_answer = asyncio.Event()

    async def hold(route: Route) -> None:
        if route.request.method == "POST":
            await may_answer.wait()
        await route.continue_()

    await page.route("**/leads", hold)
    await page.route("**/leads/import?*", hold)
    await tab.open("/import")
    await tab.choose_file("leads.csv", "firstName,lastName,email\nAda,King,ada@example.com\n")
    await page.get_by_role("button", name="Import", exact=True).click()
    await page.get_by_role("link", name="Leads", exact=True).click()
    await page.get_by_role("link", name="+ New", exact=True).click()
    for label, text in (
        ("First name", "Late"),
        ("Last name", "Comer"),
        ("E-mail", "l@example.com"),
    ):
        await page.get_by_role("textbox", name=label).fill(text)
    await page.keyboard.press("Control+Enter")
    await page.evaluate("history.back()")
    await expect(page.get_by_text("There are unsaved entries")).to_be_visible()
    await page.evaluate("history.back()")
    await expect(page.get_by_label("First name")).to_have_count(0)
    may_answer.set()
    await expect(page.get_by_text("The import has begun")).to_be_visible()
    await expect(page.get_by_text("Late Comer is created")).to_be_visible()
    await expect(page).to_have_url(f"{tab.url}/console/leads")
