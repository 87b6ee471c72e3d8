"""A real Chromium that looks at a page of a service, and remembers what went wrong on it."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import ConsoleMessage, Page, Request, async_playwright
from tests.integrations.environments import FOLDER, environment

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WITHIN_MS = 20_000


@dataclass
class Visit:
    """A visit of a page: what Chromium wrote to its console as an error, and what the page asked other hosts for."""

    page: Page
    host: str
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def on_message(self, message: ConsoleMessage) -> None:
        """Keep warnings and errors, of which a violation of the content-security policy is one."""
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def on_failure(self, error: object) -> None:
        """Keep an exception that no script caught."""
        self.errors.append(str(error))

    def on_request(self, request: Request) -> None:
        """Keep a request that goes elsewhere."""
        if urlsplit(request.url).netloc != self.host:
            self.foreign.append(request.url)

    async def findings(self) -> list[str]:
        """What axe finds serious or critical: the rule, and the elements that break it."""
        await self.page.evaluate((FOLDER / "console" / "node_modules" / "axe-core" / "axe.min.js").read_text())
        found: dict[str, Any] = await self.page.evaluate("axe.run({resultTypes: ['violations']})")
        return [
            f"{rule['id']}: {rule['help']}: {[node['html'][:200] for node in rule['nodes'][:5]]}"
            for rule in found["violations"]
            if rule["impact"] in ("serious", "critical")
        ]


def executable() -> str:
    """The path of Chromium; skips the test that asks where there is none."""
    found = os.environ.get("EVERLOOP_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("needs Chromium (apt-get install chromium, or EVERLOOP_CHROMIUM names it)")
    environment("console")
    return found


@asynccontextmanager
async def visit(url: str, *, scheme: str = "light", width: int = 1280, height: int = 900) -> AsyncIterator[Visit]:
    """Open a page, as somebody who prefers this colour scheme does on a screen of this size, in pixels."""
    path = executable()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        context = await browser.new_context(
            color_scheme="dark" if scheme == "dark" else "light",
            viewport={"width": width, "height": height},
            locale="en-GB",
            timezone_id="UTC",
            reduced_motion="reduce",
        )
        context.set_default_timeout(WITHIN_MS)
        page = await context.new_page()
        visit = Visit(page, urlsplit(url).netloc)
        page.on("console", visit.on_message)
        page.on("pageerror", visit.on_failure)
        context.on("request", visit.on_request)
        try:
            await page.goto(url)
            yield visit
        finally:
            await context.close()
            await browser.close()
