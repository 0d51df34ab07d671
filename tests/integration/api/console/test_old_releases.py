"""A tab that is older than its server says so, and offers to be loaded anew."""

from typing import Any

import httpx
import pytest
from playwright.async_api import Page, Route

from tests.support.browser import Tab, expect, needs_chromium
from tests.support.builders import lead_body

pytestmark = [needs_chromium, pytest.mark.long]

PROBLEM = {"code": "not-found", "detail": "There is nothing at this address"}


@pytest.fixture
async def lead(client: httpx.AsyncClient) -> dict[str, Any]:
    made: dict[str, Any] = (await client.post("/leads", json=lead_body())).json()
    return made


async def upgrade(page: Page) -> None:
    """Have the server be of another release, whose files have other addresses."""

    async def page_of_another(route: Route) -> None:
        if route.request.method != "HEAD":
            return await route.continue_()
        return await route.fulfill(headers={"ETag": '"another"'})

    await page.route("**/console", page_of_another)
    await page.route(
        "**/console/*/screens/*", lambda route: route.fulfill(status=404, json=PROBLEM)
    )


async def offers_to_reload(tab: Tab) -> None:
    await expect(tab.page.get_by_role("button", name="New version · Reload")).to_be_visible()
    assert await tab.violations() == []


@pytest.mark.parametrize("path", ["import", "streams", "doctor"])
async def test_a_screen_that_is_gone(path: str, tab: Tab, lead: dict[str, Any]) -> None:
    page = tab.page
    await tab.open("/leads")
    await expect(page.get_by_role("link", name=lead["lastName"])).to_be_visible()
    await upgrade(page)
    await page.evaluate(f"history.replaceState(null, '', '/console/{path}')")
    await page.evaluate("dispatchEvent(new PopStateEvent('popstate'))")
    await expect(page.get_by_text("This screen cannot be shown")).to_be_visible()
    await offers_to_reload(tab)
    # The rest of the page is there, and so is the new release.
    await page.get_by_role("link", name="Leads", exact=True).click()
    await expect(page.get_by_role("link", name=lead["lastName"])).to_be_visible()
    await page.go_back()
    await expect(page.get_by_text("This screen cannot be shown")).to_be_visible()
    await page.unroute_all()
    await page.get_by_role("button", name="Reload", exact=True).click()
    await expect(page.get_by_text("This screen cannot be shown")).to_have_count(0)
    await expect(page.locator("h1")).to_be_visible()


@pytest.mark.parametrize("status", [404, 405, 422])
async def test_a_request_that_is_answered_no_more(
    status: int, tab: Tab, lead: dict[str, Any]
) -> None:
    page = tab.page
    await tab.open(f"/leads/{lead['id']}")
    await expect(page.locator(".values")).to_be_visible()
    await upgrade(page)
    await page.route("**/leads/*", lambda route: route.fulfill(status=status, json=PROBLEM))
    await page.get_by_label("Status", exact=True).select_option("contacted")
    await expect(page.get_by_text("was not changed")).to_be_visible()
    await expect(page.get_by_label("Status", exact=True)).to_have_value("new")
    await offers_to_reload(tab)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"items": []}, id="another form"),
        pytest.param([{"id": "1", "version": 1}], id="fields are missing"),
        pytest.param(None, id="no JSON"),
    ],
)
async def test_an_answer_in_another_form(answer: object, tab: Tab, lead: dict[str, Any]) -> None:
    page = tab.page
    await tab.open(f"/leads?q={lead['lastName']}")
    await expect(page.locator("tbody tr")).to_have_count(1)
    await upgrade(page)

    async def in_another_form(route: Route) -> None:
        if answer is None:
            return await route.fulfill(body="<p>Moved</p>", content_type="text/html")
        return await route.fulfill(json=answer)

    await page.route("**/leads?*", in_another_form)
    await page.get_by_label("Search leads").fill("somebody")
    await expect(page.get_by_role("alert").first).to_be_visible()
    await offers_to_reload(tab)
    # That the page has a defect then is in the browser's log as well.
    tab.wrong.clear()


@pytest.mark.parametrize("missing", ["main.js", "api.js", "vendor/*.js"])
async def test_a_page_without_its_scripts_is_not_blank(missing: str, tab: Tab) -> None:
    page = tab.page
    refuse = f"**/console/*/{missing}"
    await page.route(refuse, lambda route: route.fulfill(status=404, json=PROBLEM))
    await tab.open("/leads?status=new")
    await expect(page.get_by_text("The console is still being loaded")).to_be_visible()
    assert await tab.violations() == []
    await page.unroute(refuse)
    await page.get_by_role("link", name="load it again").click()
    await expect(page.get_by_text("No lead matches these filters")).to_be_visible()
    assert page.url.endswith("/console/leads?status=new")
