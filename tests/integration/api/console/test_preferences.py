"""The console for those who want no motion, or colours of their own, or whose server is busy."""

from typing import Literal

import httpx
import pytest
from playwright.async_api import Route

from tests.integration.api.console.conftest import OpenTab, check, enter_key
from tests.support.browser import PATIENCE_MS, Tab, expect, needs_chromium
from tests.support.builders import lead_body
from tests.support.eventually import eventually

pytestmark = [needs_chromium, pytest.mark.long]


@pytest.mark.parametrize(("motion", "animation"), [("no-preference", "mark"), ("reduce", "none")])
async def test_a_changed_row_moves_for_those_alone_who_like_it(
    motion: Literal["no-preference", "reduce"],
    animation: str,
    client: httpx.AsyncClient,
    open_signed_in: OpenTab,
) -> None:
    lead = (await client.post("/leads", json=lead_body())).json()
    async with open_signed_in(client, reduced_motion=motion) as tab:
        page = tab.page
        await tab.open("/leads")
        await expect(page.get_by_text("Live", exact=True)).to_be_attached()
        await expect(page.locator("tbody tr")).to_have_count(1)
        # The mark passes by itself: time stands still.
        await page.clock.pause_at(await page.evaluate("Date.now() + 1000"))
        await client.patch(f"/leads/{lead['id']}", json={"status": "contacted"})

        async def is_marked() -> bool:
            await page.clock.run_for(250)
            return await page.locator("tr.marked").count() == 1

        await eventually(is_marked)
        name = await page.locator("tr.marked").evaluate(
            "row => getComputedStyle(row).animationName"
        )
        assert name == animation
        button = page.get_by_role("link", name="+ New")
        moves = await button.evaluate("one => getComputedStyle(one).transitionDuration")
        assert (moves == "0s") == (motion == "reduce")


async def test_forced_colours(operated: httpx.AsyncClient, open_signed_in: OpenTab) -> None:
    for _ in range(2):
        await operated.post("/leads", json=lead_body())
    async with open_signed_in(operated, forced_colors="active") as tab:
        page = tab.page
        await tab.open("/leads")
        await page.locator("tbody input").first.check()
        await page.locator("tbody a.name").nth(1).click()
        await expect(page.locator(".values")).to_be_visible()
        await check(tab, "leads")
        for what in (".head nav a[aria-current]", "tbody tr.selected", "tbody tr.open"):
            line = await page.locator(what).evaluate("one => getComputedStyle(one).outlineStyle")
            assert line == "solid", what
        await page.keyboard.press("Tab")
        focus = "getComputedStyle(document.activeElement).outlineStyle"
        assert await page.evaluate(focus) != "none"
        await tab.open("/streams")
        await enter_key(page)
        await expect(page.locator(".spark").first).to_be_visible(timeout=PATIENCE_MS)
        await check(tab, "streams")
        stroke = await page.locator(".spark path").first.evaluate(
            "one => [getComputedStyle(one).stroke, getComputedStyle(one).color]"
        )
        assert stroke[0] == stroke[1]


async def test_a_server_that_asks_to_wait_is_given_the_time(
    tab: Tab, client: httpx.AsyncClient
) -> None:
    for _ in range(3):
        await client.post("/leads", json=lead_body())
    asked: list[str] = []

    async def refuse_once(route: Route) -> None:
        url = route.request.url
        if route.request.method != "PATCH":
            return await route.continue_()
        asked.append(url)
        if asked.count(url) > 1:
            return await route.continue_()
        body = {"code": "rate-limited", "detail": "Too many requests"}
        return await route.fulfill(status=429, headers={"Retry-After": "30"}, json=body)

    page = tab.page
    await page.clock.install()
    await page.route("**/leads/*", refuse_once)
    await tab.open("/leads")
    await page.get_by_label("Select all rows of this page").check()
    await page.get_by_text("Status ▾").click()
    await page.get_by_role("button", name="Contacted").click()

    async def all_refused() -> bool:
        return len(asked) == 3

    await eventually(all_refused)
    await page.clock.fast_forward(29_000)
    await expect(page.get_by_text("0 of 3")).to_be_visible()
    assert len(asked) == 3

    async def all_done() -> bool:
        await page.clock.fast_forward(5_000)
        return len(asked) == 6

    await eventually(all_done)
    await expect(page.get_by_role("region", name="Progress")).to_have_count(0)
    leads = (await client.get("/leads")).json()
    assert {lead["status"] for lead in leads} == {"contacted"}
