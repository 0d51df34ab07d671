"""Work in the console: by keys alone, with files, with a failing model, while things break."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from playwright.async_api import Route

from devstack.free_ports import free_port
from services.api.settings import ApiSettings
from shared.events.outcome import Outcome, OutcomeStatus
from tests.integration.api.console.conftest import OpenTab
from tests.support.api import RunSyncer, running_api
from tests.support.auth_server import AuthServer
from tests.support.browser import PATIENCE_MS, Tab, expect, needs_chromium
from tests.support.builders import lead_body
from tests.support.responder import Responder

pytestmark = [needs_chromium, pytest.mark.long]

# What browsers have run (OWASP's cheat sheet on the evasion of filters), and what templates do.
CALLS = (
    *("<script>{}</script>", "<ScRiPt>{}</sCrIpT>", "<script src=//x.y/z></script>{}"),
    *("<img src=x onerror={}>", "<img/src=x/onerror={}>", '<img src="x" onerror="{}">'),
    *("<svg onload={}>", "<svg/onload={}>", "<svg><script>{}</script></svg>"),
    *("<body onload={}>", "<iframe src=javascript:{}>", '<iframe srcdoc="{}">'),
    *("<a href=javascript:{}>x</a>", "<input autofocus onfocus={}>", "<video onerror={} src>"),
    *("<details open ontoggle={}>", "<marquee onstart={}>", "<object data=javascript:{}>"),
    *("<embed src=javascript:{}>", "<form action=javascript:{}>", "<math href=javascript:{}>"),
    *("<b onmouseover={}>x", "<style>@import '{}'</style>", "<link rel=stylesheet href={}>"),
    *("<meta http-equiv=refresh content=0;{}>", "<base href=//x.y>{}", "<noscript>{}"),
    *('"><script>{}</script>', "'><script>{}</script>", "--><script>{}</script>"),
    *("</title><script>{}</script>", "</textarea><script>{}</script>", "]]><script>{}</script>"),
    *("javascript:{}", "data:text/html,<script>{}</script>", "vbscript:{}"),
    *("{{{{{}}}}}", "${{{}}}", "#{{{}}}", "<%= {} %>", "[[{}]]", "{{{{constructor.{}}}}}"),
    *("\\u003cscript\\u003e{}", "%3Cscript%3E{}", "&lt;script&gt;{}", "&#60;script&#62;{}"),
    *("<template><script>{}</script>", "<x is=script>{}", "<slot onslotchange={}>"),
    *("__proto__ {}", "=HYPERLINK({})", "';{};'", "\\';{};//"),
)
PAYLOADS = [call.format("bad()")[:50] for call in CALLS]


async def test_fifty_attacks_are_text(tab: Tab, client: httpx.AsyncClient) -> None:
    page = tab.page
    await page.add_init_script("window.bad = () => { throw new Error('text was run'); }")
    rows = [
        lead_body(**dict.fromkeys(("firstName", "lastName", "city", "state", "country"), payload))
        for payload in PAYLOADS
    ]
    written = (await client.post("/leads/batch", json={"leads": rows})).json()["results"]
    assert len(PAYLOADS) >= 50
    assert {row["status"] for row in written} == {201}
    await tab.open("/leads")
    await expect(page.locator("tbody tr")).to_have_count(len(PAYLOADS))
    shown = await page.locator("tbody a.name").all_inner_texts()
    expected = [f"{row['lead']['firstName']} {row['lead']['lastName']}" for row in written]
    assert sorted(map(str.split, shown)) == sorted(map(str.split, expected))
    for row in written[::10]:
        await page.locator(f"tr[data-id='{row['lead']['id']}'] a.name").click()
        await expect(page.locator(".values")).to_contain_text(row["lead"]["city"])
        await page.keyboard.press("e")
        await expect(page.get_by_label("City")).to_have_value(row["lead"]["city"])
        await page.keyboard.press("Escape")
    # As column titles and cells of a file, and in its name.
    titles = ";".join(f'"{payload.replace(chr(34), chr(34) * 2)}"' for payload in PAYLOADS[:20])
    await tab.open("/import")
    name = "<img src=x onerror=bad()>.csv"
    await tab.choose_file(name, f"{titles}\n{titles}\n")
    await expect(page.locator(".drop")).to_contain_text(name)
    await expect(page.locator(".preview")).to_contain_text(PAYLOADS[0])
    assert await page.locator("#app :is(script, img, svg, iframe, b, form form)").count() == 0


async def test_without_a_mouse(tab: Tab, client: httpx.AsyncClient) -> None:
    page = tab.page
    press, write = page.keyboard.press, page.keyboard.type
    await tab.open("/leads")
    await expect(page.get_by_text("There are no leads yet")).to_be_visible()
    for number in range(3):
        await press("n")
        await expect(page.get_by_label("First name")).to_be_focused()
        await write("Keys")
        await press("Tab")
        await write(f"Number{number}")
        await press("Tab")
        await write(f"keys{number}@example.com")
        await press("Control+Enter")
        await expect(page.get_by_role("heading", name=f"Keys Number{number}")).to_be_focused()
        await press("Escape")
        await expect(page.locator(".drawer")).to_have_count(0)
    await page.reload()
    await expect(page.locator("tbody tr")).to_have_count(3)
    await press("j")
    await press("j")
    await expect(page.get_by_role("link", name="Keys Number1")).to_be_focused()
    await press("Enter")
    await expect(page.get_by_role("heading", name="Keys Number1")).to_be_focused()
    await press("j")
    await expect(page.get_by_role("heading", name="Keys Number0")).to_be_focused()
    await press("Escape")
    await expect(page.get_by_role("link", name="Keys Number0")).to_be_focused()
    await press("x")
    await press("k")
    await press("k")
    await press("Shift+X")
    await expect(page.get_by_text("3 selected")).to_be_visible()
    await press("Escape")
    await expect(page.get_by_text("3 selected")).to_have_count(0)
    await press("/")
    await write("Number1")
    await expect(page.locator("tbody tr")).to_have_count(1)
    await expect(page.get_by_label("Search leads")).to_have_value("Number1")
    found = (await client.get("/leads?q=Number1")).json()
    assert [lead["lastName"] for lead in found] == ["Number1"]


CSV = (
    "Given Name;E-Mail;Surname;Town;Notes\n"
    "Ada;ada.rows@example.com;King;London;x\n\n"
    "Grace;not-an-address;Hopper;Arlington;=1+1\n"
    "Ada;ada.rows@example.com;Again;London;\n"
)


async def test_a_file_with_bad_rows(tab: Tab, client: httpx.AsyncClient, tmp_path: Path) -> None:
    page = tab.page
    path = tmp_path / "leads.csv"
    path.write_text(CSV)
    await tab.open("/import")
    await page.set_input_files("input[type=file]", path)
    await expect(page.get_by_label("What Town means")).to_have_value("city")
    await page.get_by_label("What Town means").select_option("state")
    await page.get_by_role("button", name="Dry run").click()
    await expect(page.get_by_text("nothing is written yet")).to_be_visible()
    assert (await client.get("/leads")).json() == []
    await page.get_by_role("button", name="Import", exact=True).click()
    await expect(page.locator(".row-errors li")).to_have_count(2)
    async with page.expect_download() as download:
        await page.get_by_role("button", name="Failed rows as CSV").click()
    saved = (await (await download.value).path()).read_text(encoding="utf-8-sig")
    [header, *rows] = saved.splitlines()
    assert header == "Given Name,E-Mail,Surname,Town,Notes,row,reason"
    assert rows[0].startswith("Grace,not-an-address,Hopper,Arlington,'=1+1,3,email: ")
    assert rows[1].startswith("Ada,ada.rows@example.com,Again,London,,4,email: ")
    [lead] = (await client.get("/leads")).json()
    assert (lead["firstName"], lead["state"], lead["city"]) == ("Ada", "London", None)
    # What is under way is in the address.
    await page.reload()
    await expect(page.locator(".row-errors li")).to_have_count(2)


async def test_a_create_that_waits(
    open_api: Any, run_syncer: RunSyncer, open_signed_in: OpenTab
) -> None:
    async with open_api() as client, open_signed_in(client) as tab:
        page = tab.page
        await tab.open("/leads/new")
        await page.get_by_label("First name").fill("Slow")
        await page.get_by_label("Last name").fill("Lane")
        await page.get_by_label("E-mail").fill("slow@example.com")
        await page.keyboard.press("Control+Enter")
        waiting = page.get_by_role("list", name="Accepted leads")
        await expect(waiting).to_contain_text("Slow Lane")
        await page.reload()
        await expect(waiting).to_contain_text("Slow Lane")
        async with run_syncer():
            await expect(page.get_by_text("Slow Lane is created")).to_be_visible()
            await expect(waiting).to_have_count(0)


async def test_an_api_that_restarts(
    api_settings: ApiSettings, auth: AuthServer, run_syncer: RunSyncer, open_signed_in: OpenTab
) -> None:
    settings = replace(
        api_settings, http=api_settings.http.model_copy(update={"port": free_port()})
    )
    async with run_syncer():
        async with running_api(settings, token=auth.token()) as client:
            opening = open_signed_in(client)
            tab = await opening.__aenter__()
            page = tab.page
            await tab.open("/leads/new")
            await page.get_by_label("First name").fill("Still")
            await page.get_by_label("Last name").fill("Here")
            await page.get_by_label("E-mail").fill("still@example.com")
            await expect(page.get_by_text("Live", exact=True)).to_be_attached()
        await expect(page.get_by_text("Not connected")).to_be_attached()
        await page.keyboard.press("Control+Enter")
        await expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
        async with running_api(settings, token=auth.token()) as client:
            await page.keyboard.press("Control+Enter")
            await expect(page.get_by_role("heading", name="Still Here")).to_be_focused()
            await expect(page.get_by_text("Live", exact=True)).to_be_attached()
            found = (await client.get("/leads")).json()
            assert [lead["email"] for lead in found] == ["still@example.com"]
            await opening.__aexit__(None, None, None)


async def test_a_summary_that_fails_and_is_tried_again(
    tab: Tab, client: httpx.AsyncClient, summarizer: Responder
) -> None:
    page = tab.page
    lead = (await client.post("/leads", json=lead_body())).json()
    reason = {"reason": "provider-unavailable", "detail": "The model is away"}
    summarizer.outcome = Outcome(OutcomeStatus.FAILED, orjson.dumps(reason))
    await tab.open(f"/leads/{lead['id']}")
    await page.get_by_role("button", name="Summarise").click()
    steps = page.get_by_label("Next action and summary")
    await expect(steps.get_by_role("alert")).to_contain_text("The model is away")
    await expect(page.locator("td.next")).to_contain_text("not summarised")

    written = lead | {"summary": "A mathematician.", "nextAction": "Write to her.", "version": 2}
    summarizer.outcome = Outcome(OutcomeStatus.SUMMARISED, orjson.dumps(written))
    await steps.get_by_role("button", name="Retry").click()
    await expect(page.locator(".next-action")).to_have_text("Write to her.")
    await expect(page.locator("td.next")).to_contain_text("Write to her.")
    await expect(steps.get_by_role("alert")).to_have_count(0)


async def test_many_at_once(tab: Tab, client: httpx.AsyncClient) -> None:
    page = tab.page
    rows = [lead_body() for _ in range(12)]
    assert (await client.post("/leads/batch", json={"leads": rows})).status_code == 207
    await tab.open("/leads")
    await page.get_by_label("Select all rows").check()
    bar = page.get_by_label("Selected leads")
    await bar.get_by_text("Status").click()
    await bar.get_by_role("button", name="Qualified", exact=True).click()
    await expect(page.get_by_text("Status qualified: 12 leads done")).to_be_visible()
    now = (await client.get("/leads")).json()
    assert {lead["status"] for lead in now} == {"qualified"}

    await page.get_by_label("Select all rows").check()
    async with page.expect_download() as download:
        await bar.get_by_role("button", name="Export").click()
    saved = (await (await download.value).path()).read_text(encoding="utf-8-sig")
    assert len(saved.splitlines()) == 13
    await bar.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog.get_by_role("button", name="Delete")).to_be_disabled()
    await dialog.get_by_role("textbox").fill("12")
    await dialog.get_by_role("button", name="Delete").click()
    await expect(page.get_by_text("Delete: 12 leads done")).to_be_visible()
    assert (await client.get("/leads")).json() == []


async def test_a_selection_of_many_pages_is_exported(tab: Tab, client: httpx.AsyncClient) -> None:
    rows = [lead_body() for _ in range(130)]
    assert (await client.post("/leads/batch", json={"leads": rows})).status_code == 207
    page = tab.page
    await tab.open("/leads")
    await page.get_by_label("Select all rows of this page").check()
    await page.get_by_role("button", name="Select all 130 that match").click()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    async with page.expect_download() as download:
        await page.get_by_role("region", name="Selected leads").get_by_text("Export").click()
    saved = (await (await download.value).path()).read_text(encoding="utf-8-sig")
    assert sum(row["email"] in saved for row in rows) == len(saved.splitlines()) - 1 == len(rows)
    # The thirty that no page has shown come in one answer.
    assert len([url for url in asked if "/leads?id=" in url]) == 1
    assert not [url for url in asked if "/leads/" in url]


async def test_a_lead_that_changed_is_not_deleted_unseen(
    tab: Tab, client: httpx.AsyncClient
) -> None:
    page = tab.page
    lead = (await client.post("/leads", json=lead_body(city="Bonn"))).json()
    await tab.open(f"/leads/{lead['id']}")
    await page.get_by_role("tabpanel").get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_be_visible()
    await client.patch(f"/leads/{lead['id']}", json={"city": "Paris", "status": "qualified"})
    await dialog.get_by_role("button", name="Delete").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("changed this lead meanwhile")
    await expect(dialog.locator(".changes")).to_have_text("CityBonn → ParisStatusnew → qualified")
    assert await tab.violations() == []
    assert (await client.get(f"/leads/{lead['id']}")).status_code == 200
    # What is shown now may be deleted.
    await dialog.get_by_role("button", name="Delete").click()
    await expect(page.get_by_text("is deleted")).to_be_visible()
    assert (await client.get(f"/leads/{lead['id']}")).status_code == 404


async def test_a_lead_that_another_deletes_first_is_gone(
    tab: Tab, client: httpx.AsyncClient
) -> None:
    page = tab.page
    lead = (await client.post("/leads", json=lead_body())).json()
    await tab.open(f"/leads/{lead['id']}")
    await page.get_by_role("tabpanel").get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_be_visible()
    await client.delete(f"/leads/{lead['id']}")
    await dialog.get_by_role("button", name="Delete").click()
    await expect(page.get_by_text("is deleted")).to_be_visible()
    await expect(page.get_by_text("There are no leads yet")).to_be_visible()


@pytest.mark.parametrize("number", [3, 101])
async def test_of_many_those_that_changed_are_kept(
    number: int, tab: Tab, client: httpx.AsyncClient
) -> None:
    page = tab.page
    rows = [lead_body() for _ in range(number)]
    written = (await client.post("/leads/batch", json={"leads": rows})).json()["results"]
    # The last that the list shows: of a hundred and one it is on no page that was seen.
    listed = (await client.get("/leads?limit=500&sort=createdAt")).json()
    kept = listed[-1]
    assert len(listed) == len(written) == number
    await tab.open("/leads?sort=createdAt")
    await page.get_by_label("Select all rows of this page").check()
    if number > 100:
        await page.get_by_role("button", name=f"Select all {number} that match").click()
    await page.get_by_label("Selected leads").get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text(f"Delete {number} leads?")
    await client.patch(f"/leads/{kept['id']}", json={"status": "qualified"})
    if number > 9:
        await dialog.get_by_role("textbox").fill(str(number))
    await dialog.get_by_role("button", name="Delete").click()
    done = page.get_by_text(f"Delete: {number} of {number}")
    await expect(done).to_be_visible(timeout=3 * PATIENCE_MS)
    await page.get_by_role("button", name="1 failed · Show").click()
    await expect(dialog).to_contain_text("It has changed since it was selected")
    assert [lead["id"] for lead in (await client.get("/leads")).json()] == [kept["id"]]


async def test_a_change_waits_for_one_s_own_before_it(tab: Tab, client: httpx.AsyncClient) -> None:
    page, both_are_asked_for = tab.page, asyncio.Event()
    sent: list[str | None] = []

    async def hold(route: Route) -> None:
        if route.request.method == "PATCH":
            sent.append(route.request.headers.get("if-match"))
            await both_are_asked_for.wait()
        await route.continue_()

    lead = (await client.post("/leads", json=lead_body())).json()
    await tab.open(f"/leads/{lead['id']}")
    await page.route("**/leads/*", hold)
    status = page.locator("#lead-status")
    for chosen in ("contacted", "qualified", "converted"):
        await status.select_option(chosen)
    both_are_asked_for.set()
    await expect(page.get_by_text("is converted")).to_be_visible()
    await expect(status).to_have_value("converted")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    assert sent == ['"1"', '"2"', '"3"']
    assert (await client.get(f"/leads/{lead['id']}")).json()["status"] == "converted"


async def test_the_focus_goes_along_to_another_screen(tab: Tab) -> None:
    page = tab.page
    await tab.open("/leads")
    await expect(page.get_by_text("There are no leads yet")).to_be_visible()
    link = page.get_by_role("navigation").get_by_role("link", name="Import")
    await link.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Import leads")).to_be_visible()
    await expect(page.locator("main")).to_be_focused()
    await page.go_back()
    await expect(page.get_by_text("There are no leads yet")).to_be_visible()
    # It was in what is shown, and is there.
    await expect(page.locator("main")).to_be_focused()


async def test_back_from_a_form_asks_first(tab: Tab, client: httpx.AsyncClient) -> None:
    page = tab.page
    lead = (await client.post("/leads", json=lead_body(city="Bonn"))).json()
    back, warning = "history.back()", page.get_by_text("There are unsaved entries")
    await tab.open("/leads")
    # A form without entries lets go at once.
    await page.get_by_role("link", name="+ New").click()
    await page.evaluate(back)
    await expect(page.get_by_label("First name")).to_have_count(0)

    await page.get_by_role("link", name="+ New").click()
    await page.get_by_label("First name").fill("Half")
    await page.evaluate(back)
    await expect(warning).to_be_visible()
    await expect(page.get_by_label("First name")).to_have_value("Half")
    await expect(page).to_have_url(f"{tab.url}/console/leads/new")
    await page.evaluate(back)
    await expect(page.get_by_label("First name")).to_have_count(0)
    await expect(page).to_have_url(f"{tab.url}/console/leads")
    await expect(page.locator(f"tr[data-id='{lead['id']}']")).to_be_visible()
    await expect(warning).to_have_count(0)

    # Forward asks as well, and so does an edit, for itself.
    await page.locator("tbody a.name").click()
    await page.get_by_role("button", name="Edit").click()
    await page.get_by_label("City").fill("Par")
    await page.evaluate(back)
    await expect(warning).to_be_visible()
    await page.get_by_label("City").fill("Paris")
    await page.evaluate(back)
    await expect(page.get_by_label("City")).to_have_value("Paris")
    await page.keyboard.press("Control+Enter")
    await expect(page.locator(".values")).to_contain_text("Paris")
    await page.evaluate(back)
    await expect(page.locator(".drawer")).to_have_count(0)
    await page.get_by_role("link", name="+ New").click()
    await page.get_by_role("button", name="Close", exact=True).click()
    await page.evaluate(back)
    await page.get_by_label("First name").fill("Half")
    await page.evaluate("history.forward()")
    await expect(warning).to_be_visible()
    await expect(page.get_by_label("First name")).to_have_value("Half")
