"""`python -m tests.support.console_speed`: how soon the console shows something of many leads.

In Debian's Chromium on the same machine, a fresh profile each time: what a user's browser takes
depends on theirs.
"""

import asyncio
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import click
import orjson
from playwright.async_api import Browser, Page, async_playwright

from bench.system import System, running_system, stored_leads

PAGE_OF_ROWS = 100
# When the browser has painted what follows from the event.
_PRESS = """
    async (key) => {
        const began = performance.now();
        document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
        await new Promise((painted) => requestAnimationFrame(() => setTimeout(painted)));
        return performance.now() - began;
    }
"""
# From the last letter that is typed to the row, and until then rows of before are no answer.
_SEARCH = """
    async ([text, name]) => {
        const field = document.querySelector("input[type=search]");
        field.value = text;
        const began = performance.now();
        field.dispatchEvent(new Event("input", { bubbles: true }));
        const rows = () => [...document.querySelectorAll("tbody tr")];
        while (rows().length !== 1 || !rows()[0].textContent.includes(name))
            await new Promise(requestAnimationFrame);
        return performance.now() - began;
    }
"""
_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


async def tried(browser: Browser, system: System, *, number: int) -> dict[str, float]:
    """Return what one look at the list took, in ms since its address was entered or since input."""
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    page = await context.new_page()
    await page.add_init_script(
        f"sessionStorage.setItem('leads.session', {json.dumps(json.dumps(_session(system)))})"
    )
    try:
        await page.goto(f"{system.url}/console/leads")
        rows = f"() => document.querySelectorAll('tbody tr').length === {PAGE_OF_ROWS}"
        await page.wait_for_function(rows, polling="raf")
        took = {"rows": float(await page.evaluate("performance.now()"))}
        took["firstPaint"] = await page.evaluate(_PAINT)
        took["key"] = await _pressed(page)
        took["search"] = await page.evaluate(_SEARCH, [f"ada.{number}@", f"Lovelace {number}"])
    finally:
        await context.close()
    return took


async def _pressed(page: Page) -> float:
    took: list[float] = [await page.evaluate(_PRESS, "j") for _ in range(10)]
    return median(took)


def _session(system: System) -> Mapping[str, Any]:
    made = time.time() * 1000
    token = system.headers["Authorization"].removeprefix("Bearer ")
    return {
        "access": token,
        "refresh": "none",
        "expires": made + 3_600_000,
        "made": made,
        "email": "ada@example.com",
    }


async def measure(leads: int, rounds: int) -> Mapping[str, float]:
    """Run a system and return the medians."""
    options: Sequence[str] = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with running_system() as system, async_playwright() as playwright:
        await stored_leads(system, leads)
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=options
        )
        try:
            took = [
                await tried(browser, system, number=leads // 2 + number) for number in range(rounds)
            ]
        finally:
            await browser.close()
    return {name: round(median(one[name] for one in took)) for name in took[0]}


@click.command()
@click.option("--leads", default=100_000, show_default=True, help="How many are stored.")
@click.option("--rounds", default=5, show_default=True, help="Looks, of which the median counts.")
def main(*, leads: int, rounds: int) -> None:
    """Print milliseconds as JSON."""
    click.echo(orjson.dumps(asyncio.run(measure(leads, rounds)), option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main()
