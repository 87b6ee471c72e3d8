"""Signing in at the console in a real Chromium: with a key, with an address that works once, and at a real provider."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.access import add_key, bearer
from tests.builders.events import observation
from tests.builders.letters import letter_of
from tests.everloop.served_services import ServedServices, served
from tests.everloop.test_approval_commands import come_to_approval
from tests.integrations.chromium import Visit, executable, visit
from tests.integrations.environments import environment
from tests.integrations.oidc_provider import AUDIENCE, SECRET, provider

from everloop.local.ports import free_port
from everloop_schemas.approvals import CandidateApproved

pytestmark = [pytest.mark.integrations, pytest.mark.timeout(180)]
LOOP = "market"


class Installation:
    """Registry and monitoring with access control, whose loop has a candidate that waits for two people."""

    def __init__(self, services: ServedServices, tokens: dict[str, str]) -> None:
        self.services, self.tokens = services, tokens
        self.url = services.urls["monitoring"]
        come_to_approval(services, 2, bearer(tokens["eve"]))

    def approved_by(self) -> list[str]:
        """Who has approved, by the registry's decisions."""
        found = self.services.events(CandidateApproved.topic)
        return [str(decision.actor) for decision in found if isinstance(decision, CandidateApproved)]


@contextmanager
def installation(folder: Path, **settings: Any) -> Iterator[Installation]:
    """It runs until the block ends."""
    executable()
    file = folder / "keys.json"
    tokens = {name: add_key(file, name, *roles) for name, roles in ROLES.items()}
    with served(folder, "registry", "monitoring", auth="on", auth_keys=file, **settings) as services:
        yield Installation(services, tokens)


ROLES = {"alice": ("operator",), "bob": ("operator",), "vera": ("viewer",), "eve": ("engineer",)}


async def sign_in(seen: Visit, token: str) -> None:
    """Type a key, as a person does."""
    await seen.page.get_by_label("Key").fill(token)
    await seen.page.keyboard.press("Enter")


async def entered(seen: Visit, name: str) -> None:
    """Wait until the console shows who has signed in, and the loop."""
    await seen.page.wait_for_selector(f"#who >> text={name}")
    await seen.page.wait_for_selector("#candidate dl")


def refusals(seen: Visit) -> list[str]:
    """What Chromium says of answers such as 401, and nothing else."""
    assert all("401" in line or "403" in line or "409" in line for line in seen.errors), seen.errors
    assert seen.foreign == []
    return seen.errors


async def test_two_people_approve_on_the_console_and_the_way_out_closes_it(tmp_path: Path) -> None:
    with installation(tmp_path) as running:
        async with visit(f"{running.url}/#{LOOP}") as seen:
            await seen.page.wait_for_url("**/sign-in")
            findings = await seen.findings()
            await sign_in(seen, running.tokens["alice"] + "0")
            await seen.page.wait_for_selector("#said >> text=none of this installation's keys")
            await sign_in(seen, running.tokens["alice"])
            await entered(seen, "alice")
            address, cookies = seen.page.url, await seen.page.context.cookies()
            await seen.page.get_by_role("button", name="Approve").click()
            await seen.page.wait_for_selector("#candidate .failed >> text=Say why")
            await seen.page.get_by_label("Reason").fill("its errors are <b>fine</b>")
            await seen.page.get_by_role("button", name="Approve").click()
            await seen.page.wait_for_selector("#candidate dd >> text=alice")
            disabled = await seen.page.get_by_role("button", name="Approve").get_attribute("aria-disabled")
            findings += await seen.findings()
            await seen.page.get_by_role("button", name="Sign out").click()
            await seen.page.wait_for_url("**/sign-in")
            await seen.page.goto(f"{running.url}/")
            await seen.page.wait_for_url("**/sign-in")
            await sign_in(seen, running.tokens["bob"])
            await entered(seen, "bob")
            await seen.page.get_by_label("Reason").fill("seen")
            await seen.page.get_by_role("button", name="Approve").click()
            await seen.page.wait_for_selector("#timeline >> text=canary")
            refusals(seen)

        [cookie] = cookies
        assert address == f"{running.url}/#{LOOP}"
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")
        assert disabled == "true"
        assert findings == []
        assert running.approved_by() == ["alice", "bob"]


async def test_what_a_role_may_not_do_is_not_offered(tmp_path: Path) -> None:
    with installation(tmp_path) as running:
        running.services.publish(letter_of(observation("e1", loop=LOOP)))
        async with visit(f"{running.url}/sign-in#{LOOP}") as seen:
            await sign_in(seen, running.tokens["vera"])
            await entered(seen, "vera")

            assert "takes the role operator" in await seen.page.inner_text("#candidate")
            assert await seen.page.locator("#candidate button").count() == 0
            assert await seen.page.locator("#letters").is_hidden()
            assert refusals(seen) == []


async def test_an_address_signs_in_one_browser_and_keeps_nothing_of_it(tmp_path: Path) -> None:
    with installation(tmp_path) as running:
        asked = httpx.post(f"{running.url}/v1/session/codes", json={}, headers=bearer(running.tokens["alice"]))
        address = f"{running.url}/sign-in#code={asked.json()['code']}"
        async with visit(address) as seen:
            await entered(seen, "alice")
            history = await seen.page.evaluate("history.length")
            url = seen.page.url
        async with visit(address) as again:
            await again.page.wait_for_selector("#said >> text=used before")
            after = again.page.url

    assert url == f"{running.url}/"
    assert after == f"{running.url}/sign-in"
    assert history <= 2


async def test_a_page_at_another_port_of_the_host_sees_the_cookie_and_can_do_nothing_with_it(tmp_path: Path) -> None:
    """A browser sends cookies to all ports of a host, which is why the cookie is one half of a session alone."""
    seen_by_other: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen_by_other.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n<!doctype html><p>a page")
        await writer.drain()
        writer.close()

    with installation(tmp_path) as running:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, visit(f"{running.url}/sign-in") as seen:
            await sign_in(seen, running.tokens["alice"])
            await entered(seen, "alice")
            await seen.page.goto(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            said = await seen.page.evaluate(ATTACK, f"{running.url}/v1/loops/{LOOP}/reject")
            stolen = next(line for line in seen_by_other[0].split(b"\r\n") if line.startswith(b"Cookie: "))[8:].decode()
            thief = {"cookie": stolen, "origin": running.url}
            read = httpx.get(f"{running.url}/v1/loops", headers=thief)
            changed = httpx.post(f"{running.url}/v1/loops/{LOOP}/reject", json={"reason": "x"}, headers=thief)

    assert said == ["refused"] * 3
    assert (read.status_code, changed.status_code) == (401, 403)


ATTACK = """async address => {
    const head = {'content-type': 'application/json', 'x-csrf-token': 'x'}, credentials = 'include';
    const plain = {method: 'POST', credentials, body: '{}'}, json = {...plain, headers: head};
    const said = one => fetch(address, one).then(() => 'answered', () => 'refused');
    return await Promise.all([json, plain, {credentials}].map(said));
}"""


@pytest.mark.parametrize("client", ["console", "public"])
async def test_people_sign_in_at_a_real_provider_and_back(tmp_path: Path, client: str) -> None:
    environment("oidc")
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    at_provider, secret = free_port(), tmp_path / "secret" if client == "console" else None
    ours = {"auth_issuer": f"http://127.0.0.1:{at_provider}", "auth_audience": AUDIENCE}
    console = {"console_url": "{url}", "auth_client_id": client, "auth_client_secret_file": secret}

    with (
        installation(tmp_path, **ours, **console) as running,
        provider(at_provider, "one", tmp_path, f"{running.url}/sign-in"),
    ):
        async with visit(f"{running.url}/#{LOOP}") as seen:
            await at_the_provider(seen, "alice")
            await entered(seen, "alice")
            address = seen.page.url
            await seen.page.get_by_label("Reason").fill("as the provider knows me")
            await seen.page.get_by_role("button", name="Approve").click()
            await seen.page.wait_for_selector("#candidate dd >> text=alice")
            cookies = [cookie["name"] for cookie in await seen.page.context.cookies(running.url)]
            replayed = await seen.page.evaluate(REPLAY)
        async with visit(f"{running.url}/sign-in?code=somebody-elses&state=chosen") as lured:
            await lured.page.wait_for_selector("#said >> text=no sign-in of this tab")
        async with visit(f"{running.url}/sign-in") as stranger:
            await at_the_provider(stranger, "nobody")
            await stranger.page.wait_for_selector("#said >> text=takes one of the roles")

    assert address == f"{running.url}/#{LOOP}"
    assert not [name for name in cookies if "pending" in name], "the pending sign-in is over"
    assert replayed == 401
    assert running.approved_by() == ["alice"]


REPLAY = """async () => (await fetch('sign-in/return', {method: 'POST', headers: {'content-type': 'application/json'},
    body: JSON.stringify({code: 'again', state: 'again'})})).status"""


async def at_the_provider(seen: Visit, name: str) -> None:
    """Sign in there, as a person does, and agree."""
    await seen.page.get_by_role("button", name="Sign in at your provider").click()
    await seen.page.locator("input[name=login]").fill(name)
    await seen.page.locator("input[name=password]").fill("any")
    await seen.page.locator("button[type=submit]").click()
    await seen.page.get_by_role("button", name="Continue").click()
