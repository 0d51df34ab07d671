"""Operators in a browser: the key that they need, dead letters, replays, syncs and streams."""

import re
from dataclasses import replace

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from devstack.free_ports import free_port
from services.api.settings import ApiSettings
from shared.events.dead_letter import DeadLetter
from shared.settings import PostgresSettings, StreamsSettings
from shared.storage.dead_letters import DeadLetterRepository, LetterSelection
from shared.storage.pool import Database
from shared.streams.publisher import add_events
from tests.integration.api.console.conftest import Look, OpenTab, check, enter_key
from tests.integration.api.console.test_work import PAYLOADS
from tests.integration.api.handlers.admin.conftest import KEY, keep
from tests.support.api import running_api
from tests.support.browser import PATIENCE_MS, expect, needs_chromium
from tests.support.builders import lead_created

pytestmark = [needs_chromium, pytest.mark.long]


@pytest.fixture
def letters(database: Database) -> DeadLetterRepository:
    return DeadLetterRepository(database)


async def test_dead_letters_look(
    look: Look,
    operated: httpx.AsyncClient,
    letters: DeadLetterRepository,
    open_signed_in: OpenTab,
) -> None:
    async with open_signed_in(operated, **look) as tab:
        page = tab.page
        await tab.open("/dead-letters")
        await expect(page.get_by_role("dialog")).to_be_visible()
        await check(tab, "key")
        await enter_key(page, "guessed")
        await expect(page.get_by_label("Key", exact=True)).to_be_focused()
        await check(tab, "wrong key")
        await enter_key(page)
        await expect(page.get_by_text("There are no dead letters")).to_be_visible()
        await check(tab, "no letters")
        await keep(letters, [lead_created() for _ in range(3)], reason="W" * 40)
        await page.get_by_role("button", name="3 new").click()
        await expect(page.locator("tbody tr")).to_have_count(3)
        await check(tab, "letters")
        await page.get_by_role("button", name="Discard…").click()
        await expect(page.get_by_role("dialog")).to_contain_text("Discard 3 dead letters?")
        await check(tab, "discard many")
        await page.keyboard.press("Escape")
        await page.locator("tbody a.name").first.click()
        await expect(page.get_by_role("region", name="Payload")).to_be_visible()
        await check(tab, "letter")


async def test_the_key_is_asked_for_and_forgotten(
    operated: httpx.AsyncClient, open_signed_in: OpenTab
) -> None:
    async with open_signed_in(operated) as tab:
        page = tab.page
        await tab.open("/leads")
        await page.get_by_text("Streams ▾").click()
        await page.get_by_role("link", name="Dead letters").click()
        key = page.get_by_label("Key", exact=True)
        await expect(key).to_be_focused()
        for wrong in ("guessed", "schlüssel", "ключ"):
            await enter_key(page, wrong)
            await expect(key).to_have_accessible_description("✗ This is not the operators' key")
            await expect(key).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(page.get_by_text("This screen is for operators")).to_be_visible()
        await page.get_by_role("button", name="Enter the key").click()
        await enter_key(page)
        await expect(page.get_by_text("There are no dead letters")).to_be_visible()
        # It is in memory alone.
        kept = await page.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}])")
        assert KEY not in kept
        await page.locator(".menu summary", has_text="ada@").click()
        await page.get_by_role("button", name="Forget the operators' key").click()
        await expect(page.get_by_text("There are no dead letters")).to_have_count(0)
        await expect(key).to_be_focused()


async def test_a_dead_letter_is_retried_and_others_discarded(
    operated: httpx.AsyncClient, letters: DeadLetterRepository, open_signed_in: OpenTab
) -> None:
    events = [lead_created() for _ in range(3)]
    await keep(letters, events)
    await keep(letters, [lead_created() for _ in range(2)], reason="crash")
    async with open_signed_in(operated) as tab:
        page = tab.page
        await tab.open("/dead-letters?reason=attempts")
        await enter_key(page)
        rows = page.locator("tbody tr")
        await expect(rows).to_have_count(3)
        await page.keyboard.press("j")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="lead-created 3")).to_be_focused()
        await expect(page.get_by_role("region", name="Newest error")).to_have_text(
            "TransientError: not today"
        )
        await expect(page.get_by_role("region", name="Payload")).to_contain_text("Lovelace")
        await page.get_by_role("button", name="Retry", exact=True).click()
        await expect(page.get_by_text("is back in its stream")).to_be_visible()
        await expect(rows).to_have_count(2)
        await expect(rows.first.get_by_role("link")).to_be_focused()
        # The syncer makes the lead of it now; its link leads there.
        await rows.first.get_by_role("link").click()
        link = page.get_by_role("link", name="Its lead")
        await expect(link).to_have_attribute("href", f"/console/leads/{events[1].subject}")
        await page.keyboard.press("Escape")
        await expect(rows.first.get_by_role("link")).to_be_focused()

        await page.get_by_role("button", name="Discard…").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog.get_by_role("button", name="Discard")).to_be_disabled()
        await dialog.get_by_role("textbox").fill("discard 2")
        await dialog.get_by_role("button", name="Discard").click()
        await expect(page.get_by_text("2 dead letters discarded")).to_be_visible()
        await expect(page.get_by_text("No dead letter matches these filters")).to_be_visible()
        await page.get_by_role("link", name="Clear all filters").click()
        await expect(rows).to_have_count(2)
        await page.get_by_label("Reason").select_option("crash")
        await expect(page).to_have_url(re.compile("reason=crash"))
        await page.get_by_role("button", name="Retry…").click()
        await dialog.get_by_role("button", name="Retry").click()
        await expect(page.get_by_text("2 events back in the streams")).to_be_visible()
    assert await letters.counts(LetterSelection()) == []
    retried = await operated.get(f"/leads/{events[2].subject}")
    assert retried.status_code == 200


async def test_what_is_no_event_is_shown_literally(
    operated: httpx.AsyncClient, letters: DeadLetterRepository, open_signed_in: OpenTab
) -> None:
    for number, payload in enumerate(PAYLOADS):
        await letters.add_letter(
            DeadLetter(
                group="syncer",
                event_id=str(number),
                stream="stream:leads",
                entry_id=f"{number}-1",
                type=payload,
                reason=payload,
                error=payload,
                attempts=1,
                fields={"subject": payload, "data": payload, payload: payload},
            )
        )
    async with open_signed_in(operated) as tab:
        page = tab.page
        await page.add_init_script("window.bad = () => { throw new Error('text was run'); }")
        await tab.open("/dead-letters")
        await enter_key(page)
        await expect(page.locator("tbody tr")).to_have_count(len(PAYLOADS))
        shown = await page.locator("tbody a.name bdi").all_text_contents()
        assert shown == list(reversed(PAYLOADS))
        for number in range(0, len(PAYLOADS), 10):
            await page.locator("tbody a.name").nth(number).click()
            payload = shown[number]
            await expect(page.locator(".drawer h2")).to_contain_text(payload)
            text = await page.get_by_role("region", name="Payload").text_content()
            assert text is not None
            assert f"\n{payload}: {payload}" in text
        assert await page.locator("#app :is(script, img, svg, iframe, b, form form)").count() == 0


async def test_letters_that_come_meanwhile_move_nothing(
    operated: httpx.AsyncClient, letters: DeadLetterRepository, open_signed_in: OpenTab
) -> None:
    await keep(letters, [lead_created()])
    async with open_signed_in(operated) as tab:
        page = tab.page
        await tab.open("/dead-letters")
        await enter_key(page)
        await expect(page.locator("tbody tr")).to_have_count(1)
        await page.get_by_role("button", name="Discard…").click()
        await page.get_by_role("dialog").get_by_role("textbox").fill("discard 1")
        await keep(letters, [lead_created() for _ in range(2)], reason="crash")
        more = page.get_by_text("▲ 2 new · Show")
        await expect(more).to_be_attached(timeout=PATIENCE_MS)
        # The dialog means what it says, and not what has come since.
        await expect(page.get_by_role("dialog").get_by_role("textbox")).to_have_value("discard 1")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("1 dead letter discarded")).to_be_visible()
        await expect(page.locator("tbody tr")).to_have_count(2)


async def test_postgres_is_away(
    api_settings: ApiSettings, redis: Redis, open_signed_in: OpenTab
) -> None:
    nowhere = SecretStr(f"postgresql://postgres:x@127.0.0.1:{free_port()}/leads")
    settings = replace(api_settings, postgres=PostgresSettings(supabase_connection_string=nowhere))
    await add_events(redis, [lead_created() for _ in range(4)])
    async with (
        running_api(settings, api_key=SecretStr(KEY)) as client,
        open_signed_in(client) as tab,
    ):
        page = tab.page
        await tab.open("/streams")
        await enter_key(page)
        lane = page.locator(".lane").filter(has_text="leads").first
        await expect(lane.locator(".partitions li")).to_have_count(3, timeout=PATIENCE_MS)
        # Nothing is said of who reads them, rather than that nobody does.
        await expect(lane.locator(".owner").first).to_have_text("unknown")
        await expect(lane).not_to_contain_text("nobody")
        await page.get_by_text("Streams ▾").click()
        await page.get_by_role("link", name="Dead letters", exact=True).click()
        failure = page.get_by_role("alert")
        await expect(failure).to_contain_text("could not be read", timeout=3 * PATIENCE_MS)
        await expect(failure).to_contain_text("Request")
        await expect(failure.get_by_role("button", name="Retry")).to_be_visible()


async def test_redis_is_away(api_settings: ApiSettings, open_signed_in: OpenTab) -> None:
    nowhere = SecretStr(f"redis://127.0.0.1:{free_port()}/0")
    settings = replace(api_settings, streams=StreamsSettings(redis_url=nowhere))
    async with (
        running_api(settings, api_key=SecretStr(KEY)) as client,
        open_signed_in(client) as tab,
    ):
        page = tab.page
        await tab.open("/dead-letters")
        # The key is right, whatever else is wrong: the letters are in PostgreSQL.
        await enter_key(page)
        await expect(page.get_by_text("There are no dead letters")).to_be_visible(
            timeout=3 * PATIENCE_MS
        )
        await page.get_by_text("Streams ▾").click()
        await page.get_by_role("link", name="Streams", exact=True).click()
        await expect(page.get_by_role("alert")).to_contain_text(
            "The streams could not be read", timeout=3 * PATIENCE_MS
        )
