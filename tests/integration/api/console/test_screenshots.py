"""Pictures of the console for `docs/img`, with SCREENSHOTS=1: made-up leads at a fixed time."""

import copy
import itertools
import math
import os
import random
import re
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from mimesis import Address, Locale, Person
from playwright.async_api import Page, Route

from shared.events.dead_letter import DeadLetter
from shared.settings import PostgresSettings, StreamsSettings
from shared.storage.dead_letters import DeadLetterRepository
from shared.storage.pool import Database
from shared.streams.codec import encode
from tests.integration.api.console.conftest import Look, OpenTab, enter_key, id_of, looks_of
from tests.support.browser import expect, needs_chromium
from tests.support.builders import lead_created, lead_fields
from tests.support.repository import ROOT
from tests.support.summarizer import running_summarizer, summarizer_settings

pytestmark = [
    needs_chromium,
    pytest.mark.skipif(os.environ.get("SCREENSHOTS") != "1", reason="make screenshots"),
]

PICTURES = ROOT / "docs/img"
NOW = datetime(2026, 11, 24, 10, 30, tzinfo=UTC)
COUNTRIES = {
    Locale.EN: "United Kingdom",
    Locale.DE: "Germany",
    Locale.FR: "France",
    Locale.ES: "Spain",
    Locale.SV: "Sweden",
}
STATUSES = ["new", "new", "contacted", "qualified", "contacted", "converted", "unqualified"]
LEADS = 64
SUMMARISED = 20
CSV = (
    "Given Name;Surname;E-Mail;Town;Notes\n"
    "Ada;King;ada.king@example.com;London;met at the fair\n"
    "Alan;Turing;alan@example;Wilmslow;call after five\n"
    "Mary;Somerville;mary@example.com;Jedburgh;\n"
)


def person(number: int) -> dict[str, str]:
    locale = list(COUNTRIES)[number % len(COUNTRIES)]
    names, places = Person(locale, seed=number), Address(locale, seed=number)
    return {
        "firstName": names.first_name(),
        "lastName": names.last_name(),
        "email": f"{names.username('l_d')}@example.org",
        "phone": f"+44 20 7946 0{number:03}",
        "city": places.city(),
        "country": COUNTRIES[locale],
    }


@pytest.fixture
async def seeded(
    operated: httpx.AsyncClient,
    database: Database,
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
) -> AsyncGenerator[httpx.AsyncClient]:
    """Yield a client of an API with made-up leads, the newest of them summarised."""
    client = operated
    chance = random.Random(7)
    async with running_summarizer(summarizer_settings(postgres_settings, streams_settings)):
        age = timedelta()
        for number in range(LEADS):
            lead = (await client.post("/leads", json=person(number))).json()
            if number < SUMMARISED:
                await client.post(f"/leads/{lead['id']}/summary")
            status = STATUSES[number % len(STATUSES)]
            if status != "new":
                await client.patch(f"/leads/{lead['id']}", json={"status": status})
            async with database.transaction() as connection:
                await connection.execute(
                    "UPDATE leads.lead SET created_at = $2, updated_at = $3 WHERE id = $1",
                    *(UUID(lead["id"]), NOW - age - timedelta(minutes=2), NOW - age / 2),
                )
            age += timedelta(minutes=chance.expovariate(1 / 40))
        yield client


REASONS = [
    ("attempts", "TransientError: PostgreSQL: deadlock detected"),
    ("invalid", "ValidationError: email: Must be a valid email address"),
    ("attempts", "TransientError: PostgreSQL: canceling statement due to lock timeout"),
    ("crash", "The process died while it handled the event"),
]


@pytest.fixture
async def parked(seeded: httpx.AsyncClient, database: Database) -> httpx.AsyncClient:
    """Return the client of an API with dead letters, too."""
    letters = DeadLetterRepository(database)
    for number in range(17):
        reason, error = REASONS[number % len(REASONS)]
        event = lead_created(lead_fields(**person(LEADS + number)))
        await letters.add_letter(
            DeadLetter(
                group="syncer",
                event_id=str(event.id),
                stream="stream:leads",
                entry_id=f"{int(NOW.timestamp()) - number * 311}000-0",
                type=event.type,
                reason=reason,
                error=error,
                attempts=5 if reason == "attempts" else 1,
                fields={str(name): str(value) for name, value in encode(event).items()},
            )
        )
    async with database.transaction() as connection:
        await connection.execute(
            "UPDATE leads.dead_letter SET dead_at = $1::timestamptz - (20 - id) * $2::interval",
            *(NOW, timedelta(minutes=7)),
        )
    return seeded


def at_work(streams: list[dict[str, Any]], look: int) -> list[dict[str, Any]]:
    """Return the streams as they might be at work, with a partition that is behind."""
    wave = math.sin(look / 3)
    for stream in streams:
        rate = {"stream:leads": 41, "stream:summaries": 6}.get(stream["name"], 0)
        stream["perSecond"] = round(rate * (1 + 0.4 * wave), 1)
        for group in stream["groups"]:
            group["handledPerSecond"] = round(rate * (0.9 + 0.3 * wave), 1)
            group["consumers"] = [
                {"name": f"{group['name']}:{host}:7-1", "idle": 0.1, "pending": 0}
                for host in ("host-a", "host-b", "host-c")
            ]
            if rate:
                group |= {"undelivered": 812 if rate > 10 else 4, "pending": rate, "retries": 2}
                group["oldestPending"] = 19.4
        for partition in stream["partitions"]:
            number = partition["number"]
            partition["owner"] = f"syncer:host-{'abc'[number % 3]}:7-1"
            partition |= {"lag": 812 if number == 1 else 0, "held": 2 if number == 1 else 0}
    return streams


async def show_streams(page: Page, url: str, client: httpx.AsyncClient) -> None:
    """Show the streams as if much was done: nothing is, where pictures are taken."""
    real = (await client.get("/admin/streams")).json()
    looks = itertools.count()

    async def answer(route: Route) -> None:
        await route.fulfill(json=at_work(copy.deepcopy(real), next(looks)))

    await page.route("**/admin/streams", answer)
    async with page.expect_response("**/admin/streams"):
        await page.goto(f"{url}/console/streams")
        await enter_key(page)
    for _ in range(30):
        async with page.expect_response("**/admin/streams"):
            await page.clock.fast_forward(2100)


async def take(page: Page, name: str, look: Look) -> None:
    path = PICTURES / f"{name}-{look['color_scheme']}-{look['viewport']['width']}.png"
    await page.screenshot(path=path, animations="disabled")


@pytest.fixture(params=looks_of([(1280, 800), (360, 740)]), ids=id_of)
def look(request: pytest.FixtureRequest, session: dict[str, Any]) -> Look:
    """Return one after the other for pictures of somebody who signed in at the fixed time."""
    made = NOW.timestamp() * 1000
    session |= {"made": made, "expires": made + 3_600_000}
    given: Look = request.param
    return given


async def test_pictures(
    look: Look,
    seeded: httpx.AsyncClient,
    open_signed_in: OpenTab,
) -> None:
    async with open_signed_in(seeded, **look, timezone_id="UTC") as tab:
        page = tab.page
        await page.clock.set_fixed_time(NOW)
        await tab.open("/leads")
        await expect(page.locator("tbody tr")).to_have_count(LEADS)
        await expect(page.locator(".foot")).to_contain_text("of 64")
        await expect(page.get_by_text("Live", exact=True)).to_be_attached()
        await take(page, "leads", look)
        await page.locator("tbody a.name").nth(2).click()
        await expect(page.locator(".provenance")).to_contain_text("prompt")
        await take(page, "lead", look)
        await tab.open("/leads/new")
        await page.get_by_label("First name").fill("Grace")
        await page.get_by_label("E-mail").fill("grace@")
        await page.keyboard.press("Control+Enter")
        await expect(page.locator(".field .error").first).to_be_visible()
        await take(page, "new-lead", look)
        await tab.open("/import")
        await tab.choose_file("fair.csv", CSV)
        await page.get_by_role("button", name="Dry run").click()
        await expect(page.locator(".row-errors")).to_be_visible()
        await take(page, "import", look)


async def test_pictures_for_operators(
    look: Look,
    parked: httpx.AsyncClient,
    open_signed_in: OpenTab,
) -> None:
    async with open_signed_in(parked, **look, timezone_id="UTC") as tab:
        page = tab.page
        await page.clock.set_fixed_time(NOW)
        await tab.open("/dead-letters")
        await enter_key(page)
        await page.locator("tbody a.name").nth(2).click()
        await expect(page.get_by_role("region", name="Payload")).to_be_visible()
        await take(page, "dead-letter", look)
        await tab.open("/replays/new")
        await enter_key(page)
        await page.get_by_label("Types of events").fill("lead-created, lead-updated")
        await page.get_by_role("button", name="Count first").click()
        typed = page.get_by_label(re.compile("^Type replay"))
        await typed.scroll_into_view_if_needed()
        await typed.fill("replay")
        await take(page, "replay", look)
        await tab.open("/doctor")
        await enter_key(page)
        await expect(page.get_by_role("region", name="What is well")).to_be_visible()
        await take(page, "doctor", look)
    async with open_signed_in(parked, **look, timezone_id="UTC") as tab:
        await tab.page.clock.install(time=NOW)
        await show_streams(tab.page, tab.url, parked)
        await expect(tab.page.get_by_text("Live", exact=True)).to_be_attached()
        await take(tab.page, "streams", look)
