"""A real browser on the console: Debian's Chromium, driven by Playwright, that forgives nothing.

What the console writes to the browser's log as an error, what breaks its policy, and what it asks
of any other origin fails the test.
"""

import gzip
import json
import os
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    FilePayload,
    Page,
    Request,
    async_playwright,
    expect,
)

from tests.support.repository import ROOT

__all__ = ["Tab", "expect", "needs_chromium", "open_browser", "open_tab"]

CHROMIUM = shutil.which("chromium")
# A loaded machine takes its time.
PATIENCE_MS = 20_000
AXE = ROOT / "tests/support/vendor/axe.min.js.gz"
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# Chromium writes each answer that is a refusal there, also those that a page expects.
EXPECTED = "Failed to load resource"

Scheme = Literal["light", "dark"]

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="NO CHROMIUM: nothing of the console is tried in a browser"
)


@dataclass
class Tab:
    """A tab of the console, and what went wrong in it."""

    page: Page
    url: str
    wrong: list[str] = field(default_factory=list[str])

    async def open(self, path: str) -> None:
        """Go to an address below `/console`."""
        await self.page.goto(f"{self.url}/console{path}")

    async def choose_file(self, name: str, content: str) -> None:
        """Choose a file of CSV where the page asks for one."""
        file: FilePayload = {"name": name, "mimeType": "text/csv", "buffer": content.encode()}
        await self.page.set_input_files("input[type=file]", file)

    async def violations(self) -> list[str]:
        """Return what axe finds. Trusted Types refuse a script tag: it is evaluated."""
        # Colours that are on their way to others are no colours to be judged.
        await self.page.evaluate("document.getAnimations().forEach((one) => one.finish?.())")
        found: list[dict[str, Any]] = await self.page.evaluate(
            f"""async (tags) => {{
                if (!window.axe) {{ {gzip.decompress(AXE.read_bytes()).decode()} }}
                const {{ violations }} = await window.axe.run(document, {{ runOnly: tags }});
                return violations.map(({{ id, nodes }}) => ({{
                    id,
                    nodes: nodes.map((node) => [
                        node.html, node.failureSummary,
                        ...node.any.flatMap((one) => one.relatedNodes.map((near) => near.html)),
                    ].join(' ')),
                }}));
            }}""",
            WCAG,
        )
        return [f"{one['id']}: {node}" for one in found for node in one["nodes"]]

    async def scrolls_sideways(self) -> bool:
        """Return whether the page is wider than the window."""
        wider: bool = await self.page.evaluate(
            "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        )
        return wider

    def _log(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not message.text.startswith(EXPECTED):
            self.wrong.append(f"{message.type}: {message.text}")

    def _ask(self, request: Request) -> None:
        if not request.url.startswith((self.url, "blob:")):
            self.wrong.append(f"asks {request.url}")

    def _raise(self, error: Error) -> None:
        self.wrong.append(f"raised: {error}")

    def watch(self) -> None:
        """Note what goes wrong from now on."""
        self.page.on("console", self._log)
        self.page.on("request", self._ask)
        self.page.on("pageerror", self._raise)


@asynccontextmanager
async def open_browser() -> AsyncGenerator[Browser]:
    """Start Chromium without a window."""
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def open_tab(
    browser: Browser | BrowserContext,
    url: str,
    *,
    session: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncGenerator[Tab]:
    """Open a tab, signed in by `session`; the block must leave nothing wrong in it.

    In a browser it has a context of its own, with `options`; in a context it shares that.
    """
    usual: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}, "locale": "en-GB"}
    if isinstance(browser, BrowserContext):
        context = browser
    else:
        context = await browser.new_context(**usual | options)
    context.set_default_timeout(PATIENCE_MS)
    page = await context.new_page()
    tab = Tab(page, url)
    tab.watch()
    if session is not None:
        kept = json.dumps(json.dumps(session))
        # Once: what the page makes of its session afterwards is its own.
        await page.add_init_script(
            "if (!sessionStorage.getItem('signed-in')) {"
            f" sessionStorage.setItem('leads.session', {kept});"
            " sessionStorage.setItem('signed-in', 'once'); }"
        )
    try:
        yield tab
    finally:
        await (page.close() if isinstance(browser, BrowserContext) else context.close())
    assert tab.wrong == []
