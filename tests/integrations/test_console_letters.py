"""Dead letters on the console in a real Chromium: shown as text, repaired, sent again, and by nobody else's page.

With EVERLOOP_SCREENSHOTS=1 the screenshot of the documentation is written anew; else the tree is left as it is.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY
from tests.builders.events import observation, prediction_made
from tests.builders.letters import letter_of, letter_of_record
from tests.builders.loops import loop_spec, loop_state
from tests.everloop.served_services import ServedServices, served
from tests.integrations.chromium import Visit, executable, visit
from tests.integrations.environments import ROOT

from everloop_schemas.dead_letter import DeadLetter
from everloop_schemas.feature import FeaturesComputed
from everloop_schemas.ingest import EventReceived
from everloop_schemas.monitoring import DeadLetterSent

pytestmark = [pytest.mark.integrations, pytest.mark.timeout(120)]

MARKUP = '<img src=x onerror="window.hacked=1"><b>&amp;\''
SPEC = loop_spec(
    schema={"visits": {"type": "number", "min": 0}, "plan": {"type": "string"}},
    expect=[{"field": "visits", "between": [0, 100], "then": "dead_letter"}],
)
IMAGE = "console-letters.png"
FOREIGN_PAGE = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n<!doctype html><p>a page"
ATTACK = """async address => {
    const made = (name, parts) => document.body.appendChild(Object.assign(document.createElement(name), parts));
    made('iframe', {name: 'answer'});
    made('form', {method: 'POST', action: address, target: 'answer'}).submit();
    const json = {method: 'POST', headers: {'content-type': 'application/json'}, body: '{}'};
    const plain = {method: 'POST', mode: 'no-cors', body: '{}'};
    return await Promise.all([json, plain].map(one => fetch(address, one).then(() => 'answered', () => 'refused')));
}"""


@pytest.fixture
def services(tmp_path: Path) -> Iterator[ServedServices]:
    """Ingest, feature and monitoring, with one loop."""
    executable()
    with served(tmp_path, "ingest", "feature", "monitoring") as running:
        running.publish(loop_state(SPEC))
        yield running


@asynccontextmanager
async def letters_of(services: ServedServices, *letters: DeadLetter) -> AsyncIterator[Visit]:
    """The console, with the first of these letters opened."""
    services.publish(*letters)
    async with visit(services.urls["monitoring"]) as seen:
        opener = seen.page.locator("#letters tbody button").first
        await opener.focus()
        await seen.page.keyboard.press("Enter")
        await seen.page.wait_for_selector("#letters pre")
        yield seen


def _clean(visit: Visit) -> None:
    assert visit.errors == []
    assert visit.foreign == []


async def test_a_dead_letter_that_is_opened_shows_its_record_as_text(services: ServedServices) -> None:
    strange = letter_of_record(EventReceived.topic.name, None, MARKUP.encode(), 7, "ingest", f"no object: {MARKUP}")
    services.publish(strange)
    async with letters_of(services, letter_of(observation("e1", {"visits": -1.0}))) as seen:
        opener = seen.page.locator("#loopless button").first
        await opener.focus()
        await seen.page.keyboard.press("Enter")

        assert await seen.page.inner_text("#loopless pre") == MARKUP
        assert "data: does not fit" in await seen.page.inner_text("#letters")
        assert f"no object: {MARKUP}" in await seen.page.inner_text("#loopless")
        assert await opener.evaluate("node => node === document.activeElement")
        assert await seen.findings() == []
        _clean(seen)


async def test_what_ingest_refused_is_repaired_by_clicking_refused_with_the_field_and_sent_once_it_fits(
    services: ServedServices,
) -> None:
    entry = {"id": "order-1", "data": {"visits": 1000.0, "plan": MARKUP}}
    url = f"{services.urls['ingest']}/v1/loops/{SPEC.loop}/events"
    async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(20):
        while (answer := await http.post(url, json=entry)).status_code == 404:  # ingest does not know the loop yet
            await asyncio.sleep(0.02)
    assert answer.status_code == 422
    async with letters_of(services) as seen:
        assert "refused by HTTP" in await seen.page.inner_text("#letters td[colspan]")
        await _press(seen, "Repair")
        text = seen.page.locator("#letters textarea")
        begun = await text.input_value()
        assert await text.evaluate("node => node === document.activeElement")

        await text.fill(begun + "}")
        await _press(seen, "Send repaired")
        broken = await seen.page.inner_text("#letters .failed")
        await text.fill(begun.replace("1000.0", "-2"))
        await _press(seen, "Send repaired")
        await seen.page.wait_for_selector("#letters .failed dt")
        refused = await seen.page.inner_text("#letters .failed")
        kept = await text.input_value()
        findings, open_ = await seen.findings(), await seen.page.inner_text("#letters tbody tr")
        expected, seen.errors = seen.errors, []
        await text.fill(begun.replace("1000.0", "3"))
        await _press(seen, "Send repaired")
        await seen.page.wait_for_selector("#letters tbody tr >> text=repaired")

        sent, closed = await seen.page.inner_text("#letters .done"), await text.count()
        assert MARKUP.replace('"', '\\"') in begun
        assert "no JSON" in broken
        assert "data.visits" in refused
        assert "must be at least 0" in refused
        assert '"visits": -2' in kept
        assert "open" in open_
        assert sent == f"✓ Sent again: to ingest, /v1/loops/{SPEC.loop}/events, as order-1."
        assert closed == 0
        assert [*findings, *await seen.findings()] == []
        assert ["422" in line for line in expected] == [True], expected  # what Chromium says of any answer like this
        _clean(seen)
    [computed] = await _published(services, FeaturesComputed)
    assert (computed.data.prediction_id, computed.data.features["visits"]) == ("order-1", 3)
    [event] = services.events(EventReceived.topic)
    assert event.data.fields == {"visits": 3, "plan": MARKUP}


async def test_a_letter_is_sent_as_it_was_by_key_and_told_that_it_was_sent_before(services: ServedServices) -> None:
    letter = letter_of(prediction_made("p1"), service="monitoring")
    async with letters_of(services, letter) as seen:
        await seen.page.get_by_role("button", name="Send as it was").focus()
        await seen.page.keyboard.press("Enter")
        await seen.page.wait_for_selector("#letters .done >> text=Sent again")
        again = seen.page.get_by_role("button", name="Send as it was")
        assert await again.evaluate("node => node === document.activeElement")

        await again.click()
        await seen.page.wait_for_selector("#letters .done >> text=sent before")

        await seen.page.wait_for_selector("#letters td[colspan] >> text=/Sent .* as it was/")
        _clean(seen)
    assert len(services.events(DeadLetterSent.topic)) == 1


async def test_a_repair_stays_as_it_is_typed_while_figures_change_and_is_dropped_by_cancel(
    services: ServedServices,
) -> None:
    letter = letter_of(observation("e1", {"visits": -1, "plan": "gold"}), reason="data.visits: must be at least 0")
    async with letters_of(services, letter) as seen:
        await _press(seen, "Repair")
        await seen.page.wait_for_selector("#letters textarea:focus")  # the record is read first
        await _save_picture(seen)
        await seen.page.keyboard.type("half a thou")
        services.publish(letter_of(observation("e2"), 1))
        await seen.page.evaluate("last.status = '', tick()")
        await seen.page.keyboard.type("ght")

        typed = await seen.page.input_value("#letters textarea")
        await _press(seen, "Cancel")
        await seen.page.wait_for_selector("#letters tbody >> nth=1")

        assert "half a thought" in typed
        assert await seen.page.locator("#letters textarea").count() == 0
        _clean(seen)


async def test_a_page_of_another_origin_sends_nothing(services: ServedServices) -> None:
    services.publish(letter := letter_of(observation("e1", {"visits": 1.0, "plan": "gold"})))
    address = f"{services.urls['monitoring']}/v1/dead-letters/{letter.id}/send"
    await _listed(services, letter)
    before = _refused()
    async with await asyncio.start_server(_serve_page, "127.0.0.1", 0) as server:
        async with visit(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as seen:
            said = await seen.page.evaluate(ATTACK, address)
            async with asyncio.timeout(20):
                while _refused() < before + 2:  # of the form, and of the request without permission
                    await asyncio.sleep(0.02)

    found = await _listed(services, letter)
    assert said[0] == "refused"
    assert found["sent"] == []
    assert services.events(DeadLetterSent.topic) == services.events(EventReceived.topic) == []
    own = {"origin": services.urls["monitoring"]}
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.post(address, json={}, headers=own)).json()["sent"]


async def test_where_ingests_address_is_not_known_the_page_names_the_command(tmp_path: Path) -> None:
    executable()
    with served(tmp_path, "monitoring") as services:
        services.publish(loop_state(SPEC))
        async with letters_of(services, letter := letter_of(observation("e1"))) as seen:
            shown = await seen.page.inner_text("#letters td[colspan]")

            assert "EVERLOOP_INGEST_URL" in shown
            assert f"everloop letters repair {letter.id} --set PATH=VALUE" in shown
            assert await seen.page.locator("#letters .action").count() == 0
            assert await seen.findings() == []
            _clean(seen)


def _refused() -> float:
    labels = {"service": "monitoring", "status": "403"}
    return REGISTRY.get_sample_value("everloop_http_refused_total", labels) or 0.0


async def _press(seen: Visit, name: str) -> None:
    await seen.page.get_by_role("button", name=name, exact=True).click()


async def _serve_page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(FOREIGN_PAGE)
    await writer.drain()
    writer.close()


async def _listed(services: ServedServices, letter: DeadLetter) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=services.urls["monitoring"], trust_env=False) as http, asyncio.timeout(20):
        while (answer := await http.get(f"/v1/dead-letters/{letter.id}")).status_code != 200:
            await asyncio.sleep(0.02)
    found: dict[str, Any] = answer.json()
    return found


async def _published(services: ServedServices, kind: Any) -> list[Any]:
    async with asyncio.timeout(20):
        while not (found := services.events(kind.topic)):
            await asyncio.sleep(0.02)
    return found


async def _save_picture(seen: Visit) -> None:
    if os.environ.get("EVERLOOP_SCREENSHOTS"):
        await seen.page.locator("#letters").screenshot(path=ROOT / "shared" / "docs" / "images" / IMAGE)
