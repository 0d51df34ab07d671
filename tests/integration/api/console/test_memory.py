"""A list that is left open while much changes: neither the heap nor the page grows with it."""

import itertools
import uuid
from datetime import timedelta
from typing import Any, cast

import httpx
import orjson
import pytest
from playwright.async_api import CDPSession, Route

from tests.support.browser import PATIENCE_MS, Tab, expect, needs_chromium
from tests.support.builders import lead_body
from tests.support.eventually import eventually

pytestmark = [needs_chromium, pytest.mark.long]

# An hour of many.
CHANGES = 60_000
AT_ONCE = 5_000
MOST_BYTES = 10 << 20


async def held(browser: CDPSession) -> tuple[float, float]:
    """Return the bytes of the heap and the nodes of the page, without what is garbage."""
    await browser.send("HeapProfiler.collectGarbage")
    answer = cast("dict[str, Any]", await browser.send("Performance.getMetrics"))
    metrics = {one["name"]: one["value"] for one in answer["metrics"]}
    return metrics["JSHeapUsedSize"], metrics["Nodes"]


async def test_many_changes_leave_nothing_behind(tab: Tab, client: httpx.AsyncClient) -> None:
    rows = [lead_body() for _ in range(100)]
    written = (await client.post("/leads/batch", json={"leads": rows})).json()["results"]
    shown = [row["lead"]["id"] for row in written]
    numbers = itertools.count(2)
    sent = 0

    def change() -> bytes:
        """Of five changes one is of a lead on screen, and one makes a lead."""
        number = next(numbers)
        lead_id = shown[number // 5 % 100] if number % 5 == 0 else str(uuid.uuid4())
        kind = "created" if number % 5 == 1 else "updated"
        data = orjson.dumps({"leadId": lead_id, "leadVersion": number, "change": kind})
        return b"id: %d-0\nevent: lead-changed\ndata: %s\n\n" % (number, data)

    async def answer(route: Route) -> None:
        nonlocal sent
        number = min(AT_ONCE, CHANGES - sent)
        sent += number
        body = b"".join(change() for _ in range(number)) or b": nothing\n\n"
        await route.fulfill(body=body, content_type="text/event-stream")

    page = tab.page
    await page.clock.install()
    browser = await page.context.new_cdp_session(page)
    await browser.send("Performance.enable")
    await tab.open("/leads")
    await expect(page.locator("tbody tr")).to_have_count(100)
    heap, nodes = await held(browser)
    await page.route("**/changes", answer)
    # The stream that there is ends; one after another the next ones bring changes, and end.
    await page.evaluate("dispatchEvent(new Event('offline'))")

    async def all_sent() -> bool:
        await page.clock.fast_forward(1_000)
        return sent == CHANGES

    await eventually(all_sent, within=timedelta(minutes=1))
    made = f"{CHANGES // 5:,} new leads"
    await expect(page.get_by_role("button", name=made)).to_be_visible(timeout=PATIENCE_MS)
    heap_after, nodes_after = await held(browser)
    assert heap_after - heap < MOST_BYTES
    assert nodes_after - nodes < nodes / 10
