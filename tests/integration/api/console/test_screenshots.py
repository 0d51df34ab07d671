"""Pictures of the console for `docs/img`, with SCREENSHOTS=1: made-up leads at a fixed time."""

import os
import random
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from mimesis import Address, Locale, Person
from playwright.async_api import Page

from shared.settings import PostgresSettings, StreamsSettings
from shared.storage.pool import Database
from tests.integration.api.console.conftest import OpenTab
from tests.support.browser import Scheme, expect, needs_chromium
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
    client: httpx.AsyncClient,
    database: Database,
    postgres_settings: PostgresSettings,
    streams_settings: StreamsSettings,
) -> AsyncGenerator[httpx.AsyncClient]:
    """Yield a client of an API with made-up leads, the newest of them summarised."""
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


async def take(page: Page, name: str, scheme: Scheme) -> None:
    width = page.viewport_size["width"] if page.viewport_size else 0
    await page.screenshot(path=PICTURES / f"{name}-{scheme}-{width}.png", animations="disabled")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 800), (360, 740)], ids=lambda size: str(size[0]))
async def test_pictures(
    scheme: Scheme,
    size: tuple[int, int],
    seeded: httpx.AsyncClient,
    session: dict[str, Any],
    open_signed_in: OpenTab,
) -> None:
    made = NOW.timestamp() * 1000
    session |= {"made": made, "expires": made + 3_600_000}
    viewport = {"width": size[0], "height": size[1]}
    options = {"color_scheme": scheme, "viewport": viewport, "timezone_id": "UTC"}
    async with open_signed_in(seeded, **options) as tab:
        page = tab.page
        await page.clock.set_fixed_time(NOW)
        await tab.open("/leads")
        await expect(page.locator("tbody tr")).to_have_count(LEADS)
        await expect(page.locator(".foot")).to_contain_text("of 64")
        await expect(page.get_by_text("Live", exact=True)).to_be_attached()
        await take(page, "leads", scheme)
        await page.locator("tbody a.name").nth(2).click()
        await expect(page.locator(".provenance")).to_contain_text("prompt")
        await take(page, "lead", scheme)
        await tab.open("/leads/new")
        await page.get_by_label("First name").fill("Grace")
        await page.get_by_label("E-mail").fill("grace@")
        await page.keyboard.press("Control+Enter")
        await expect(page.locator(".field .error").first).to_be_visible()
        await take(page, "new-lead", scheme)
        await tab.open("/import")
        await tab.choose_file("fair.csv", CSV)
        await page.get_by_role("button", name="Dry run").click()
        await expect(page.locator(".row-errors")).to_be_visible()
        await take(page, "import", scheme)
