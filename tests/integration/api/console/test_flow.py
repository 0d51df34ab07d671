"""Operators in a browser look after the flow: replays and syncs, from the order to the report."""

import re
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from playwright.async_api import Request
from pydantic import SecretStr
from redis.asyncio import Redis

from services.summarizer.storage.budget import MinuteBudget
from shared.settings import CacheSettings, PostgresSettings, StreamsSettings
from shared.streams.model_status import ModelStatuses
from shared.streams.publisher import add_events
from shared.streams.replays.replayer import IN_FLIGHT
from tests.integration.api.console.conftest import Look, OpenTab, check, enter_key
from tests.integration.api.handlers.admin.conftest import KEY
from tests.integration.api.handlers.admin.test_model import status
from tests.integration.api.handlers.admin.test_syncs import Offer
from tests.support.api import OpenApi, RunSyncer
from tests.support.browser import PATIENCE_MS, expect, needs_chromium
from tests.support.builders import lead_body, lead_created, lead_fields
from tests.support.eventually import eventually
from tests.support.syncer import running_syncer

pytestmark = [needs_chromium, pytest.mark.long]


@pytest.fixture
async def operator(open_api: OpenApi) -> AsyncGenerator[httpx.AsyncClient]:
    """Yield a client of an API that has the key; no syncer runs."""
    async with open_api(api_key=SecretStr(KEY)) as opened:
        opened.headers["X-API-Key"] = KEY
        yield opened


async def create_leads(client: httpx.AsyncClient, number: int) -> list[dict[str, Any]]:
    return [(await client.post("/leads", json=lead_body())).json() for _ in range(number)]


async def test_replays_look(
    look: Look, operated: httpx.AsyncClient, open_signed_in: OpenTab
) -> None:
    async with open_signed_in(operated, **look) as tab:
        page = tab.page
        await tab.open("/replays")
        await enter_key(page)
        await expect(page.get_by_text("There has been no replay")).to_be_visible()
        await check(tab, "no replays")
        await create_leads(operated, 2)
        await page.get_by_role("link", name="+ New replay").click()
        await page.get_by_text("More conditions").click()
        await page.get_by_label("Types of events").fill("lead-invented")
        await page.get_by_label("Correlation id").fill("W" * 100)
        await page.get_by_role("button", name="Count first").click()
        await expect(page.get_by_label("Types of events")).to_be_focused()
        await check(tab, "form with an error")
        await page.get_by_label("Types of events").fill("")
        await page.get_by_label("Correlation id").fill("")
        await page.get_by_role("button", name="Count first").click()
        await expect(
            page.get_by_role("heading", name="At most 2 events would be put back")
        ).to_be_focused()
        await check(tab, "plan")
        await page.get_by_label("Type replay 2 to begin").fill("replay 2")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("finished")).to_be_visible(timeout=PATIENCE_MS)
        await check(tab, "report")
        await page.get_by_role("link", name="All replays").click()
        await expect(page.locator("tbody tr")).to_have_count(1)
        await check(tab, "replays")


async def test_a_replay_from_form_to_report(
    operated: httpx.AsyncClient, open_signed_in: OpenTab
) -> None:
    leads = await create_leads(operated, 3)
    async with open_signed_in(operated) as tab:
        page = tab.page
        press, write = page.keyboard.press, page.keyboard.type
        await tab.open("/replays/new")
        await enter_key(page)
        count = page.get_by_role("button", name="Count first")
        for label, wrong in (
            ("Events a second, at most", "many"),
            ("Types of events", "lead-invented"),
            ("Ids of leads", "x" * 300),
        ):
            field = page.get_by_label(label)
            await field.fill(wrong)
            await press("Control+Enter")
            await expect(field).to_be_focused()
            await expect(field).to_have_attribute("aria-invalid", "true")
            await field.fill("")
        # What lies outside of the range is not counted.
        await page.get_by_label("Made since").fill("2099-01-01T00:00")
        await count.click()
        await expect(page.get_by_text("There is nothing to put back")).to_be_focused()
        await page.get_by_label("Made since").fill("2020-01-01T00:00")
        await expect(page.get_by_text("There is nothing to put back")).to_have_count(0)
        await page.get_by_label("Ids of leads").fill(f"{leads[0]['id']}, {leads[1]['id']}")
        await press("Control+Enter")
        await expect(
            page.get_by_role("heading", name="At most 2 events would be put back")
        ).to_be_focused()
        start = page.get_by_role("button", name="Start")
        await press("Tab")
        await write("replay 3")
        await expect(start).to_be_disabled()
        await press("Backspace")
        await write("2")
        await press("Enter")
        await expect(page.get_by_role("heading", name="Replay to syncer")).to_be_focused()
        progress = page.get_by_role("region", name="Progress")
        await expect(progress).to_contain_text("finished", timeout=PATIENCE_MS)
        await expect(progress).to_contain_text("2 of 2")
        await expect(progress.locator(".counts")).to_contain_text("changed nothing2")
        await page.reload()
        await enter_key(page)
        await expect(progress).to_contain_text("2 of 2")
    [replay] = (await operated.get("/admin/replays")).json()
    assert (replay["origin"], replay["state"]) == ("archive", "finished")
    assert replay["alreadyApplied"] == len(replay["leadIds"]) == 2


async def test_a_replay_is_cancelled_and_resumed(
    operator: httpx.AsyncClient, redis: Redis, run_syncer: RunSyncer, open_signed_in: OpenTab
) -> None:
    number = IN_FLIGHT + 50
    await add_events(redis, [lead_created() for _ in range(number)])
    answer = await operator.post("/admin/replays", json={"origin": "stream", "dryRun": False})
    async with open_signed_in(operator) as tab:
        page = tab.page
        await tab.open(f"/replays/{answer.json()['id']}")
        await enter_key(page)
        progress = page.get_by_role("region", name="Progress")
        await expect(progress).to_contain_text(f"0 of {number}", timeout=PATIENCE_MS)
        await progress.get_by_role("button", name="Cancel").click()
        await expect(progress).to_contain_text("cancelled")
        await progress.get_by_role("button", name="Resume").click()
        await expect(progress).to_contain_text("putting back")
        async with run_syncer():
            await expect(progress).to_contain_text("finished", timeout=3 * PATIENCE_MS)
        await expect(progress).to_contain_text(f"{number} of {number}")


async def test_syncs_look(look: Look, operated: httpx.AsyncClient, open_signed_in: OpenTab) -> None:
    async with open_signed_in(operated, **look) as tab:
        page = tab.page
        await tab.open("/syncs")
        await enter_key(page)
        await expect(page.get_by_text("There has been no sync")).to_be_visible()
        await check(tab, "no syncs")
        # Its source cannot be reached.
        await page.get_by_role("button", name="Run now").click()
        await expect(page.locator("tbody tr")).to_contain_text("failed", timeout=PATIENCE_MS)
        await expect(page.locator("tbody .reason")).to_contain_text("Random User did not answer")
        await check(tab, "failed")


async def test_a_sync_is_run_now(
    operator: httpx.AsyncClient,
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
    cache_settings: CacheSettings,
    open_signed_in: OpenTab,
) -> None:
    async with open_signed_in(operator) as tab:
        page = tab.page
        await tab.open("/syncs")
        await enter_key(page)
        await page.get_by_role("button", name="Run now").click()
        await expect(page.get_by_text("asked for, and not begun yet")).to_be_visible()
        source = Offer([lead_fields() for _ in range(3)])
        async with running_syncer(
            postgres_settings, streams_settings, cache_settings, source=source
        ):
            row = page.locator("tbody tr")
            await expect(row).to_contain_text("done", timeout=PATIENCE_MS)
            cells = row.locator("td.number")
            await expect(cells).to_have_text(["3", "3", "0", "0", "0"])
            await expect(page.get_by_text("asked for, and not begun yet")).to_have_count(0)
            await page.get_by_role("button", name="Run now").click()
            await expect(row).to_have_count(2, timeout=PATIENCE_MS)
            cells = row.first.locator("td.number")
            await expect(cells).to_have_text(["3", "0", "3", "0", "0"], timeout=PATIENCE_MS)


async def test_streams_look(
    look: Look,
    operated: httpx.AsyncClient,
    redis: Redis,
    open_signed_in: OpenTab,
) -> None:
    async with open_signed_in(operated, **look) as tab:
        page = tab.page
        await tab.open("/streams")
        await enter_key(page)
        flow = page.get_by_role("region", name="The flow")
        await expect(flow).to_contain_text("1 running", timeout=PATIENCE_MS)
        # Nobody has ever summarised here.
        await expect(flow).to_contain_text("no group reads it yet")
        await create_leads(operated, 3)
        await ModelStatuses(redis).tell(status("one"), calls=3, tokens=700)
        await expect(page.get_by_role("region", name="Model")).to_contain_text("large")
        await check(tab, "streams")


async def test_what_is_taken_of_the_model(
    operator: httpx.AsyncClient, redis: Redis, open_signed_in: OpenTab
) -> None:
    async with open_signed_in(operator) as tab:
        page = tab.page
        await tab.open("/streams")
        await enter_key(page)
        model = page.get_by_role("region", name="Model")
        await expect(model).to_contain_text("No summarizer runs", timeout=PATIENCE_MS)
        statuses = ModelStatuses(redis)
        await statuses.tell(status("one"), calls=3, tokens=700)
        await statuses.tell(status("two", is_circuit_open=True), calls=4, tokens=5)
        budget = MinuteBudget(redis, name="groq:large", account="ours", calls=2, tokens=1000)
        await budget.reserve(tokens=300, within=timedelta(minutes=1), background=False)
        await expect(model).to_contain_text("300 of 1,000", timeout=PATIENCE_MS)
        await expect(model).to_contain_text("7 calls, 705 tokens")
        await expect(model).to_contain_text("1 of 2 summarizers do not call it")
        await budget.pause(timedelta(minutes=5))
        await expect(model).to_contain_text("paused for", timeout=PATIENCE_MS)


async def test_streams_are_watched(
    operator: httpx.AsyncClient, redis: Redis, run_syncer: RunSyncer, open_signed_in: OpenTab
) -> None:
    await add_events(redis, [lead_created() for _ in range(7)])
    asked: list[str] = []
    under_way = 0
    most = 0

    def begin(request: Request) -> None:
        nonlocal under_way, most
        if request.url.endswith("/admin/streams"):
            asked.append(request.url)
            under_way += 1
            most = max(most, under_way)

    def end(request: Request) -> None:
        nonlocal under_way
        if request.url.endswith("/admin/streams"):
            under_way -= 1

    async with open_signed_in(operator) as tab:
        page = tab.page
        await page.clock.install()
        page.on("request", begin)
        page.on("requestfinished", end)
        page.on("requestfailed", end)
        await tab.open("/streams")
        await enter_key(page)
        lane = page.locator(".lane", has_text="leads").first
        await expect(lane).to_contain_text("7 entries waiting", timeout=PATIENCE_MS)
        await expect(lane).to_contain_text("no group reads it yet")
        await expect(lane.locator(".partitions li")).to_have_count(3)
        await expect(lane.locator(".partitions")).to_contain_text("unknown")
        async with run_syncer():
            await expect(lane).to_contain_text("0 entries waiting", timeout=PATIENCE_MS)
            await expect(lane).to_contain_text("1 running", timeout=PATIENCE_MS)
            await expect(lane.locator(".partitions")).not_to_contain_text("unknown")
        await expect(lane.locator(".partitions")).to_contain_text("nobody", timeout=PATIENCE_MS)
        row = page.get_by_role("row", name="syncer leads")
        await expect(row.get_by_role("img")).to_have_accessible_name(
            re.compile(r"^Handled a second: now ")
        )
        # Nobody looks: then nothing is asked for.
        hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
        tell = "document.dispatchEvent(new Event('visibilitychange'));"
        await page.evaluate(hide % "true" + tell)

        async def all_answered() -> bool:
            return under_way == 0

        await eventually(all_answered)
        number = len(asked)
        await page.clock.fast_forward(60_000)
        await page.clock.fast_forward(60_000)
        assert len(asked) == number
        await page.evaluate(hide % "false" + tell)

        async def asks_again() -> bool:
            return len(asked) > number

        await eventually(asks_again)
        assert most == 1


async def test_doctor_looks(
    look: Look, operated: httpx.AsyncClient, open_signed_in: OpenTab
) -> None:
    async with open_signed_in(operated, **look) as tab:
        page = tab.page
        await tab.open("/doctor")
        await enter_key(page)
        await expect(page.get_by_role("region", name="What is well")).to_be_visible(
            timeout=PATIENCE_MS
        )
        await check(tab, "findings")


async def test_the_doctor_says_what_to_do_and_looks_again(
    operator: httpx.AsyncClient, redis: Redis, open_signed_in: OpenTab
) -> None:
    async with open_signed_in(operator) as tab:
        page = tab.page
        await redis.config_set("maxmemory-policy", "allkeys-lru")
        try:
            await tab.open("/doctor")
            await enter_key(page)
            wrong = page.get_by_role("region", name="What is wrong")
            finding = wrong.get_by_role("listitem").filter(has_text="eviction")
            await expect(finding).to_contain_text("allkeys-lru", timeout=PATIENCE_MS)
            await expect(finding.locator(".advice")).to_contain_text("noeviction")
        finally:
            await redis.config_set("maxmemory-policy", "noeviction")
        again = page.get_by_role("button", name="Check again")
        await again.focus()
        await page.keyboard.press("Enter")
        await expect(finding).to_have_count(0, timeout=PATIENCE_MS)
        await expect(page.get_by_role("status").first).to_be_visible()
        well = page.get_by_role("region", name="What is well")
        await expect(well.get_by_text("redis eviction")).to_be_visible()
