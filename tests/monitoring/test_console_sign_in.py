"""Signing in at the console: what a session needs, what ends it, and that nobody else's page can use it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.access import add_key, bearer
from tests.builders.running import http_client, until

from everloop_monitoring.app import build
from everloop_monitoring.settings import MonitoringSettings
from everloop_schemas.audit import RequestRecorded
from everloop_shared.access import keys, sessions
from everloop_shared.access.key_file import KeyFile, change_key_file
from everloop_shared.audit import trail
from everloop_shared.errors import Misconfigured
from everloop_shared.messaging.memory import MemoryBroker

pytestmark = pytest.mark.app
COOKIE = "everloop-0"
OWN, FOREIGN = {"origin": "http://localhost"}, {"origin": "http://localhost:3000"}


class Console:
    """Monitoring with access control, and a key of an operator."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.file = folder / "keys.json"
        self.token = add_key(self.file, "alice", "operator")
        made = MonitoringSettings(data=folder, port=0, auth="on", auth_keys=self.file, **settings)
        self.broker = MemoryBroker()
        self.service = build(made, self.broker.engine)
        self.http = http_client(self.service)
        self.http.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # a test says what a browser sends

    async def sign_in(self, **headers: str) -> httpx.Response:
        """Sign in with the key."""
        return await self.http.post("/sign-in/key", json={"token": self.token}, headers={**OWN, **headers})


def session_of(answer: httpx.Response, name: str = COOKIE) -> dict[str, str]:
    """What the page sends from now on: the cookie, and the header that it has for it."""
    value = next(line for line in answer.headers.get_list("set-cookie") if line.startswith(f"{name}=")).split(";")[0]
    return {"cookie": value, "x-csrf-token": answer.json()["csrf"]}


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Console:
    """The console, by plain HTTP on this machine; for all tests, as it takes a while to build."""
    return Console(tmp_path_factory.mktemp("console"))


async def test_a_key_gives_a_session_that_names_its_subject_and_what_they_may(console: Console) -> None:
    session = session_of(await console.sign_in())

    about = (await console.http.get("/v1/session", headers=session)).json()

    assert (about["subject"], about["kind"], about["signed_in"]) == ("alice", "key", True)
    assert about["may"] == ["predictions.read", "letters.read", "letters.send", "rollout.change"]
    assert (await console.http.get("/v1/loops", headers=session)).status_code == 200


async def test_the_cookie_is_strict_and_out_of_reach_of_scripts_and_with_tls_of_this_host_alone(
    console: Console, tmp_path: Path
) -> None:
    behind_tls = Console(tmp_path, console_url="https://console.example")

    [cookie] = (await console.sign_in()).headers.get_list("set-cookie")
    [secured] = (await behind_tls.sign_in()).headers.get_list("set-cookie")

    assert cookie.split("; ")[1:] == ["Path=/", "HttpOnly", "SameSite=Strict"]
    assert secured.split("; ")[1:] == ["Path=/", "HttpOnly", "SameSite=Strict", "Secure"]
    assert secured.startswith(f"__Host-{COOKIE}=")
    assert console.token.split("_")[2] not in cookie


@pytest.mark.parametrize("wrong", [{}, {"x-csrf-token": "guessed"}, {"x-csrf-token": ""}])
async def test_the_cookie_without_its_csrf_token_reads_and_changes_nothing(
    console: Console, wrong: dict[str, str]
) -> None:
    session = session_of(await console.sign_in())
    alone = {"cookie": session["cookie"], **wrong}

    read = await console.http.get("/v1/loops", headers=alone)
    changed = await console.http.post("/v1/loops/churn/silences", json={}, headers={**alone, **OWN})
    deleted = await console.http.delete("/v1/session", headers={**alone, **OWN})

    assert (read.status_code, changed.status_code, deleted.status_code) == (401, 403, 403)
    assert "x-csrf-token" in changed.json()["detail"]
    assert (await console.http.get("/v1/loops", headers=session)).status_code == 200


@pytest.mark.parametrize(
    "page", [FOREIGN, {"origin": "null"}, {**OWN, "sec-fetch-site": "same-site"}, {"sec-fetch-site": "cross-site"}, {}]
)
async def test_a_session_is_for_pages_of_its_own_origin_even_with_both_halves(
    console: Console, page: dict[str, str]
) -> None:
    session = session_of(await console.sign_in())

    changed = await console.http.delete("/v1/session", headers={**session, **page})
    read = await console.http.get("/v1/loops", headers={**session, **page})

    assert changed.status_code == 403
    assert read.status_code == (200 if not page else 401), "a browser sends no Origin with what reads"
    assert (await console.http.get("/v1/loops", headers=session)).status_code == 200


async def test_a_page_that_may_ask_by_cors_cannot_use_a_session(tmp_path: Path) -> None:
    console = Console(tmp_path, cors_origins="https://shop.example")
    shop = {"origin": "https://shop.example"}

    async with console.http as http:
        session = session_of(await console.sign_in())
        answer = await http.get("/v1/loops", headers={**session, **shop})
        changed = await http.delete("/v1/session", headers={**session, **shop})

    assert (answer.status_code, changed.status_code) == (401, 403)
    assert "access-control-allow-credentials" not in answer.headers


async def test_a_bearer_token_goes_on_as_before_beside_a_cookie_too(console: Console) -> None:
    cookie = session_of(await console.sign_in())["cookie"]

    answers = [
        await console.http.get("/v1/loops", headers=headers)
        for headers in (bearer(console.token), {**bearer(console.token), "cookie": cookie}, {"cookie": cookie})
    ]
    wrong = await console.http.get("/v1/loops", headers={**bearer(console.token + "0"), "cookie": cookie})

    assert [answer.status_code for answer in (*answers, wrong)] == [200, 200, 401, 401]


async def test_a_session_that_was_there_before_is_not_gone_on_with(console: Console) -> None:
    planted = {"cookie": f"{COOKIE}=chosen-by-somebody-else"}
    first = session_of(await console.sign_in(**planted))

    second = session_of(await console.sign_in(cookie=first["cookie"]))
    twice = {**second, "cookie": f"{second['cookie']}; {second['cookie']}"}
    mixed = {**second, "x-csrf-token": first["x-csrf-token"]}

    statuses = [
        (await console.http.get("/v1/session", headers=each)).status_code for each in (first, second, twice, mixed)
    ]
    assert planted["cookie"] != first["cookie"] != second["cookie"]
    assert statuses == [401, 200, 401, 401]


async def test_signing_out_ends_the_session_and_has_the_cookie_forgotten(console: Console) -> None:
    session = session_of(await console.sign_in())

    out = await console.http.delete("/v1/session", headers={**session, **OWN})

    after = await console.http.get("/v1/session", headers=session)
    assert out.status_code == 200
    assert f"{COOKIE}=; Path=/" in out.headers["set-cookie"]
    assert "Max-Age=0" in out.headers["set-cookie"]
    assert after.status_code == 401


async def test_a_key_that_is_revoked_ends_its_sessions_for_good(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "LOOK_EVERY_S", 0.0)
    token = add_key(console.file, "bob", "viewer")
    answer = await console.http.post("/sign-in/key", json={"token": token}, headers=OWN)
    session, other = session_of(answer), session_of(await console.sign_in())

    def change(revoked: datetime | None) -> Callable[[KeyFile], KeyFile]:
        def changed(before: KeyFile) -> KeyFile:
            of_bob = [
                key.model_copy(update={"revoked": revoked} if key.subject == "bob" else {}) for key in before.keys
            ]
            return before.model_copy(update={"keys": tuple(of_bob)})

        return changed

    statuses = [(await console.http.get("/v1/session", headers=session)).status_code]
    for revoked in (datetime.now(UTC), None):
        change_key_file(console.file, change(revoked))
        statuses.append((await console.http.get("/v1/session", headers=session)).status_code)

    assert statuses == [200, 401, 401]
    assert (await console.http.get("/v1/session", headers=bearer(token))).status_code == 200
    assert (await console.http.get("/v1/session", headers=other)).status_code == 200


async def test_a_session_ends_without_requests_as_the_settings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_000.0]
    monkeypatch.setattr(sessions, "Sessions", partial(sessions.Sessions, now=lambda: now[0]))
    console = Console(tmp_path, session_idle_s=60.0)
    session = session_of(await console.sign_in())

    statuses = []
    for passed in (59.0, 59.0, 61.0):
        now[0] += passed
        statuses.append((await console.http.get("/v1/session", headers=session)).status_code)

    assert statuses == [200, 200, 401]


async def test_what_is_no_key_is_refused_and_gives_no_session(console: Console) -> None:
    no_role = add_key(console.file, "nobody", "publisher")
    wrong = [{"token": "evl_0123456789_abc"}, {"token": "x" * 8193}, {"token": ""}, {}, {"token": "ä"}, {"key": "x"}]

    answers = [await console.http.post("/sign-in/key", json=body, headers=OWN) for body in wrong]
    foreign = await console.http.post("/sign-in/key", json={"token": console.token}, headers=FOREIGN)
    form = await console.http.post("/sign-in/key", data={"token": console.token}, headers=OWN)

    assert [answer.status_code for answer in answers] == [401, 422, 422, 422, 401, 422]
    assert (foreign.status_code, form.status_code) == (403, 415)
    assert not any("set-cookie" in answer.headers for answer in (*answers, foreign, form))
    assert no_role.split("_")[2] not in answers[0].text


async def test_a_code_signs_in_one_browser_once_and_the_token_is_in_no_address(console: Console) -> None:
    issued = (await console.http.post("/v1/session/codes", json={}, headers=bearer(console.token))).json()

    answers = [await console.http.post("/sign-in/code", json={"code": issued["code"]}, headers=OWN) for _ in (1, 2)]

    assert issued["expires_in"] == 60
    assert [answer.status_code for answer in answers] == [200, 401]
    assert "everloop up" in answers[1].json()["detail"]
    assert (await console.http.get("/v1/session", headers=session_of(answers[0]))).json()["subject"] == "alice"
    assert (await console.http.post("/v1/session/codes", json={})).status_code == 401


async def test_a_session_gives_no_code_by_which_it_would_go_on_beyond_its_end(console: Console) -> None:
    session = session_of(await console.sign_in())

    refused = await console.http.post("/v1/session/codes", json={}, headers={**session, **OWN})

    assert refused.status_code == 403
    assert "gives no code" in refused.json()["detail"]
    assert (await console.http.get("/v1/session", headers=session)).status_code == 200


async def test_who_signs_in_is_on_the_audit_topic_and_who_is_refused_too(tmp_path: Path) -> None:
    console = Console(tmp_path)

    def records() -> list[RequestRecorded]:
        found = [event for event in console.broker.events(RequestRecorded.topic) if isinstance(event, RequestRecorded)]
        return sorted((one for one in found if one.data.status), key=lambda record: record.time)

    await console.sign_in()
    await console.http.post("/sign-in/key", json={"token": "evl_0123456789_abc"}, headers=OWN)
    await until(lambda: len(records()) == 2)
    signed_in, refused = records()

    assert (signed_in.actor, signed_in.actor_kind, signed_in.data.phase) == ("alice", "key", "answered")
    assert (signed_in.data.action, signed_in.data.route) == ("console.sign_in", "/sign-in/key")
    assert (signed_in.data.status, refused.data.status) == (200, 401)
    assert (refused.actor, refused.data.phase) == ("anonymous", "refused")
    assert (refused.data.action, refused.data.route) == ("console.sign_in", "/sign-in/key")
    assert console.token.encode() not in b"".join(record.encode() for record in records())


async def test_nobody_is_signed_in_while_the_audit_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail, "MAX_WAITING", 0)
    console = Console(tmp_path)

    answer = await console.sign_in()

    assert answer.status_code == 503
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("name", ["cookie", "x-csrf-token"])
async def test_half_a_session_that_is_sent_twice_is_refused(console: Console, name: str) -> None:
    session = session_of(await console.sign_in())

    answer = await console.http.get("/v1/loops", headers=[*session.items(), (name, "planted")])

    assert answer.status_code == 400
    assert name in answer.json()["detail"]


async def test_the_open_pages_say_nothing_of_the_installation_and_lead_to_the_console_alone(console: Console) -> None:
    pages = [await console.http.get(path) for path in ("/", "/sign-in", "/sign-in?next=https://evil.example&state=x")]

    assert [page.status_code for page in pages] == [200] * 3
    assert pages[1].text == pages[2].text
    assert all("frame-ancestors 'none'" in page.headers["content-security-policy"] for page in pages)
    assert all(str(console.file.parent) not in page.text and "alice" not in page.text for page in pages)
    assert {page.headers.get("set-cookie") for page in pages} == {None}
    assert 'class="actions" hidden' in pages[1].text, "there is no provider"
    assert (await console.http.post("/sign-in/provider", json={}, headers=OWN)).status_code == 409


async def test_where_nobody_has_to_sign_in_the_page_is_as_it_was(tmp_path: Path) -> None:
    async with http_client(build(MonitoringSettings(data=tmp_path), MemoryBroker().engine)) as http:
        about = (await http.get("/v1/session")).json()
        pages = [(await http.get(path)).status_code for path in ("/", "/sign-in")]
        code = await http.post("/v1/session/codes", json={})

    assert (about["subject"], about["signed_in"], len(about["may"])) == ("anonymous", False, 4)
    assert pages == [200, 404]
    assert code.status_code == 409


def test_a_client_of_a_provider_without_an_address_to_come_back_to_is_refused_at_the_start(tmp_path: Path) -> None:
    given = {"data": tmp_path, "auth": "on", "auth_issuer": "https://login.example", "auth_audience": "a"}
    settings = MonitoringSettings(**given, auth_client_id="console")

    with pytest.raises(Misconfigured, match="EVERLOOP_MONITORING_CONSOLE_URL"):
        build(settings, MemoryBroker().engine)
