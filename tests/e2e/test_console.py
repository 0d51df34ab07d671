"""The console in a browser: the life of a lead, two people at one lead, text that attacks."""

import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from playwright.async_api import Browser

from tests.support.api_client import ACCOUNT, ApiClient
from tests.support.browser import PATIENCE_MS, Tab, expect, needs_chromium, open_tab
from tests.support.builders import lead_body
from tests.support.stack import Stack

pytestmark = needs_chromium

PAYLOADS = (
    "<script>bad()</script>",
    "<img src=x onerror=bad()>",
    '"><svg onload=bad()>',
    "javascript:bad()",
    "{{bad()}}${bad()}",
    "</title><b>bold",
)


@pytest.fixture
async def tab(browser: Browser, session: dict[str, Any], stack: Stack) -> AsyncGenerator[Tab]:
    async with open_tab(browser, stack.url, session=session) as opened:
        yield opened


async def test_the_life_of_a_lead(browser: Browser, client: ApiClient, stack: Stack) -> None:
    name = f"Journey{time.monotonic_ns()}"
    async with open_tab(browser, stack.url) as tab:
        page = tab.page
        await page.goto(stack.url)
        await page.get_by_label("E-mail").fill(ACCOUNT["email"])
        await page.get_by_label("Password").fill("not the password")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("wrong")
        await page.get_by_label("Password").fill(ACCOUNT["password"])
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_role("link", name="+ New").click()
        await expect(page).to_have_title("New lead · Leads")

        await page.get_by_label("First name").fill("Grace")
        await page.get_by_label("Last name").fill(name)
        await page.get_by_label("E-mail").fill("not an address")
        await page.keyboard.press("Control+Enter")
        email = page.get_by_label("E-mail")
        await expect(email).to_be_focused()
        await expect(email).to_have_accessible_description("✗ Email must be a valid email address")
        await email.fill(f"{name}@example.com")
        await page.keyboard.press("Control+Enter")
        heading = page.get_by_role("heading", name=f"Grace {name}")
        await expect(heading).to_be_focused()

        await page.get_by_label("Status", exact=True).select_option("contacted")
        await expect(page.get_by_text(f"Grace {name} is contacted")).to_be_visible()
        await page.get_by_role("button", name="Undo").click()
        await expect(page.get_by_label("Status", exact=True)).to_have_value("new")

        await page.get_by_role("button", name="Summarise").click()
        await expect(page.locator(".next-action")).to_contain_text(name)
        await expect(page.locator(".provenance")).to_contain_text("gpt-oss")

        await page.keyboard.press("e")
        await page.get_by_label("City").fill("Arlington")
        await page.keyboard.press("Control+Enter")
        await expect(page.locator(".values")).to_contain_text("Arlington")
        await expect(page.locator(".provenance")).to_contain_text("stale")
        await page.get_by_role("tab", name="History").click()
        await expect(page.get_by_role("list", name="History")).to_contain_text("Arlington")

        await page.reload()
        await page.get_by_role("button", name="Delete").click()
        await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        await expect(page.get_by_text("is deleted")).to_be_visible()
        await expect(heading).to_have_count(0)
    found = await client.get(f"/leads?q={name}")
    assert found.json == []


@pytest.mark.long
async def test_two_at_one_lead(tab: Tab, client: ApiClient) -> None:
    name = f"Both{time.monotonic_ns()}"
    lead = await client.create(lastName=name, city="Bonn", phone="1111111")
    page = tab.page
    await tab.open(f"/leads?q={name}")
    row = page.locator("tbody tr")
    await expect(row).to_contain_text("● new")

    # What another client changes is there without a reload.
    await client.ask("PATCH", f"/leads/{lead['id']}", json={"status": "qualified"})
    await expect(row).to_contain_text("▲ qualified")

    await row.get_by_role("link").click()
    await page.keyboard.press("e")
    await page.get_by_label("City").fill("Paris")
    await page.get_by_label("Phone").fill("2222222")
    await client.ask("PATCH", f"/leads/{lead['id']}", json={"phone": "3333333"})
    await page.keyboard.press("Control+Enter")
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("Changed meanwhile")
    # Only one side has changed the city; of the phone one has to say.
    await expect(dialog.get_by_role("radio", name="Paris")).to_be_checked()
    await expect(dialog.get_by_role("button", name="Save")).to_be_disabled()
    await dialog.get_by_role("radio", name="3333333").check()
    await dialog.get_by_role("button", name="Save").click()
    await expect(page.locator(".values")).to_contain_text("Paris")

    now = await client.read(lead["id"])
    assert (now["city"], now["phone"], now["status"]) == ("Paris", "3333333", "qualified")


@pytest.mark.long
async def test_an_address_that_is_taken(tab: Tab, client: ApiClient) -> None:
    lead = await client.create()
    page = tab.page
    await tab.open("/leads/new")
    for label, name in (
        ("First name", "firstName"),
        ("Last name", "lastName"),
        ("E-mail", "email"),
    ):
        await page.get_by_label(label).fill(lead[name])
    await page.keyboard.press("Control+Enter")

    await expect(page.get_by_label("E-mail")).to_be_focused()
    await page.get_by_text("open", exact=True).click()
    await page.get_by_text("open", exact=True).click()  # the first click warns of the draft
    await expect(page.locator(".values")).to_contain_text(lead["email"])


@pytest.mark.long
async def test_text_is_shown_as_it_is(tab: Tab, client: ApiClient) -> None:
    name = f"Text{time.monotonic_ns()}"
    page = tab.page
    await page.add_init_script("window.bad = () => { throw new Error('text was run'); }")
    for number, payload in enumerate(PAYLOADS):
        texts = dict.fromkeys(("firstName", "city", "state", "country"), payload)
        await client.create(**texts, lastName=f"{name} {number}")
    await tab.open(f"/leads?q={name}")
    rows = page.locator("tbody tr")
    await expect(rows).to_have_count(len(PAYLOADS))
    for number, payload in enumerate(PAYLOADS):
        link = rows.get_by_role("link", name=f"{payload} {name} {number}", exact=True)
        await link.click()
        await expect(page.locator(".values")).to_contain_text(payload)
    assert await page.locator("#app :is(script, img, svg, b)").count() == 0


@pytest.mark.long
async def test_a_list_is_what_its_address_says(tab: Tab, client: ApiClient) -> None:
    name = f"Page{time.monotonic_ns()}"
    rows = [lead_body(lastName=f"{name} {number:03}") for number in range(120)]
    written = await client.post("/leads/batch", json={"leads": rows})
    assert written.status == 207
    page = tab.page
    await tab.open(f"/leads?q={name}&sort=lastName")
    foot = page.locator(".foot")
    await expect(foot).to_contain_text("1\u2013100 of 120")

    await page.keyboard.press("j")
    first = page.get_by_role("link", name=f"{name} 000")
    await expect(first).to_be_focused()
    await page.get_by_role("button", name="Next page").click()
    await expect(foot).to_contain_text("101\u2013120 of 120")
    await page.reload()
    await expect(foot).to_contain_text("101\u2013120 of 120")
    await expect(page.get_by_role("link", name=f"{name} 119")).to_be_visible()
    await page.go_back()
    await expect(foot).to_contain_text("1\u2013100 of 120")

    await page.keyboard.press("/")
    await page.keyboard.type(f"{name} 007")
    await expect(page.locator("tbody tr")).to_have_count(1)
    assert "007" in page.url


@pytest.mark.long
async def test_operators_see_the_whole_system(tab: Tab, client: ApiClient, stack: Stack) -> None:
    page = tab.page
    await client.create()
    await tab.open("/streams")
    await page.get_by_label("Key", exact=True).fill("guessed")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("This is not the operators' key")).to_be_visible()
    await page.get_by_label("Key", exact=True).fill(stack.environment["API_KEY"])
    await page.keyboard.press("Enter")
    flow = page.get_by_role("region", name="The flow")
    for name in ("syncer", "summarizer"):
        lane = flow.get_by_role("listitem").filter(has_text=name).first
        await expect(lane).to_contain_text("running", timeout=PATIENCE_MS)

    # The key stays while one goes from screen to screen.
    await page.get_by_text("Streams ▾").click()
    await page.get_by_role("link", name="Syncs").click()
    await expect(page.locator("tbody tr").first).to_contain_text("schedule", timeout=PATIENCE_MS)
    await page.get_by_text("Streams ▾").click()
    await page.get_by_role("link", name="Replays").click()
    await page.get_by_role("link", name="+ New replay").click()
    await page.get_by_label("Types of events").fill("lead-created")
    await page.get_by_role("button", name="Count first").click()
    plan = page.get_by_role("heading", name="would be put back")
    await expect(plan).to_be_focused(timeout=PATIENCE_MS)
    typed = await page.locator("section label strong").text_content()
    assert typed is not None
    await page.get_by_label("to begin").fill(typed)
    await page.keyboard.press("Enter")
    progress = page.get_by_role("region", name="Progress")
    await expect(progress).to_contain_text("finished", timeout=3 * PATIENCE_MS)
