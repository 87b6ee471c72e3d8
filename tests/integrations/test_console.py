"""The console in a real Chromium, on a real installation whose loop is in a rollout after a drift.

With EVERLOOP_SCREENSHOTS=1 the screenshots of the documentation are written anew; else the tree is left as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import pytest
from playwright.async_api import Page, Route
from tests.integrations.chromium import Visit, executable, visit
from tests.integrations.environments import ROOT
from tests.integrations.rollout_after_drift import rollout_after_drift

pytestmark = [pytest.mark.integrations, pytest.mark.timeout(600)]

LOOKS = [
    (loop, scheme, width) for loop in ("electricity", "loans") for scheme in ("light", "dark") for width in (1280, 390)
]
SECTIONS = {  # beside those of every loop
    "electricity": {
        "alerts",
        "scores",
        "traffic",
        "happened",
        "versions",
        "quality",
        "slices",
        "features",
        "predictions",
    },
    "loans": {"scores", "traffic", "happened", "versions", "features", "fairness", "predictions"},
}
SHOWN_BY = ("may", "watched")  # what says which sections there are
MARKUP = '<img src=x onerror="window.hacked=1"><b>&amp;\''
IMAGES = ROOT / "shared" / "docs" / "images"
MAX_IMAGE_BYTES = 200_000


class Screenshot(NamedTuple):
    """What one shows: from the first of these sections to the last, with what this selector finds first opened."""

    sections: tuple[str, ...]
    opened: str = ""
    scheme: str = "light"
    loop: str = "electricity"
    width: int = 1120
    height: int = 844


SCREENSHOTS = {
    "light": Screenshot(("page", "traffic")),
    "dark": Screenshot(("page", "traffic"), scheme="dark"),
    "quality": Screenshot(("quality", "slices")),
    "features": Screenshot(("features",)),
    "prediction": Screenshot(("predictions",), "#predictions button"),
    "importance": Screenshot(("importance",)),
    "fairness": Screenshot(("fairness",), loop="loans"),
    "phone": Screenshot(("page", "scores"), scheme="dark", width=390),
}
AREA = """names => {
    const boxes = names.map(name => (document.getElementById(name) ?? document.body).getBoundingClientRect());
    const top = Math.max(0, boxes[0].top + scrollY - 8), end = boxes.at(-1).bottom + scrollY + 8;
    return {x: 0, y: top, width: innerWidth, height: end - top};
}"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of monitoring."""
    executable()
    with rollout_after_drift(tmp_path_factory.mktemp("console")) as url:
        yield url


async def _drawn(page: Page) -> None:
    """Wait until every section that the page asks for has its answer."""
    await page.wait_for_selector("#content:not([hidden])")
    await page.wait_for_selector("#chart path")
    await page.wait_for_selector("body[data-complete]")


async def _sections(page: Page) -> set[str]:
    """The sections that are there."""
    return set(await page.locator("section[id]:not([hidden])").evaluate_all("all => all.map(one => one.id)"))


def _clean(visit: Visit) -> None:
    assert visit.errors == []
    assert visit.foreign == []


@pytest.mark.parametrize(("loop", "scheme", "width"), LOOKS)
async def test_the_console_has_no_errors_asks_nobody_else_and_can_be_used_by_everyone(
    url: str, loop: str, scheme: str, width: int
) -> None:
    async with visit(f"{url}#{loop}", scheme=scheme, width=width) as seen:
        await _drawn(seen.page)

        findings = await seen.findings()

        assert await _sections(seen.page) >= SECTIONS[loop]
        too_wide = await seen.page.evaluate("document.documentElement.scrollWidth > innerWidth")
        assert findings == []
        assert not too_wide
        _clean(seen)


async def test_whatever_texts_say_they_are_shown_as_text(url: str) -> None:
    async def with_markup(route: Route) -> None:
        answer = await route.fetch(url=unquote(route.request.url).replace(MARKUP, ""))
        await route.fulfill(response=answer, json=_with_markup(await answer.json()))

    async with visit("about:blank") as seen:
        seen.host = url.partition("//")[2]
        await seen.page.route("**/v1/**", with_markup)
        await seen.page.goto(url)
        await _drawn(seen.page)

        await seen.page.locator("#predictions button").first.click()
        shown = await seen.page.inner_text("body")

        assert await _sections(seen.page) >= SECTIONS["electricity"]
        assert shown.count(MARKUP) > 50
        assert await seen.page.locator("main img, main b:not([aria-hidden], .figures b)").count() == 0
        assert await seen.page.evaluate("window.hacked") is None
        _clean(seen)


def _with_markup(value: Any, key: str = "") -> Any:
    """The same answer with markup behind every text that is not one of a few that the console knows."""
    known = ("time", "since", "first", "last", "task", "kind", "stage", "state", "role", "by", "severity", *SHOWN_BY)
    if isinstance(value, dict) and key in ("features", "contributions", "importance"):
        return {name + MARKUP: part for name, part in value.items()}
    if isinstance(value, dict):
        return {name: _with_markup(part, name) for name, part in value.items()}
    if isinstance(value, list):
        return [_with_markup(part, key) for part in value]
    return value + MARKUP if isinstance(value, str) and key not in known else value


async def test_a_section_that_gets_no_answer_says_so_and_the_others_are_shown(url: str) -> None:
    async with visit("about:blank") as seen:
        await seen.page.route("**/features", lambda route: route.fulfill(status=500, body="{}"))
        await seen.page.goto(url)
        await _drawn(seen.page)

        assert "v1/loops/electricity/features: monitoring answers 500" in await seen.page.inner_text("#features")
        assert "ROC AUC" in await seen.page.inner_text("#quality")


async def test_every_part_is_reached_by_the_keyboard_and_keeps_the_focus_while_figures_change(url: str) -> None:
    async with visit(url) as seen:
        await _drawn(seen.page)

        reached = []
        for _ in range(60):
            await seen.page.keyboard.press("Tab")
            reached.append(await seen.page.evaluate("document.activeElement.dataset.key ?? document.activeElement.id"))
            if reached[-1] == "table versions by line":
                break
        await seen.page.evaluate("document.querySelectorAll('#lines, #figures').forEach(n => drawn.delete(n.id))")
        await seen.page.evaluate("last.status = '', tick()")

        focused = await seen.page.evaluate("document.activeElement.dataset.key")
        assert "loop electricity" in reached
        assert focused == reached[-1]


async def test_a_prediction_that_is_opened_by_key_shows_what_its_features_contributed_and_stays_open(url: str) -> None:
    async with visit(url) as seen:
        await _drawn(seen.page)
        opener = seen.page.locator("#predictions button").first

        await opener.focus()
        await seen.page.keyboard.press("Enter")

        details = await seen.page.inner_text("#predictions tbody tr td[colspan]")
        assert "price_above_mean" in details
        assert "asked, by " in details
        assert "sum to the model's log odds" in details
        await seen.page.evaluate("last.status = '', tick()")
        assert await opener.get_attribute("aria-expanded") == "true"
        assert await opener.evaluate("node => node === document.activeElement")
        assert await seen.findings() == []


@pytest.mark.parametrize(("name", "look"), SCREENSHOTS.items())
async def test_the_screenshots_show_a_rollout_after_a_drift(
    url: str, tmp_path: Path, name: str, look: Screenshot
) -> None:
    folder = IMAGES if os.environ.get("EVERLOOP_SCREENSHOTS") else tmp_path
    folder.mkdir(exist_ok=True)
    image = folder / f"console-{name}.png"
    async with visit(f"{url}#{look.loop}", scheme=look.scheme, width=look.width, height=look.height) as seen:
        await _drawn(seen.page)
        if look.opened:
            await seen.page.locator(look.opened).first.click()
        area = await seen.page.evaluate(AREA, look.sections)

        await seen.page.screenshot(path=image, full_page=True, clip=area)

        stage = await seen.page.evaluate("drawn.get('shares').data.rollout.stage")
        assert stage == "canary" or look.loop != "electricity"
    assert image.stat().st_size < MAX_IMAGE_BYTES
