"""What people say about a candidate on the console: the real registry decides, and knows who has said it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from tests.access import add_key, bearer
from tests.builders.loops import LOOP
from tests.everloop.served_services import served
from tests.everloop.test_approval_commands import come_to_approval
from tests.everloop.test_watch_command import wait_until
from tests.monitoring.http_receiver import http_receiver
from tests.monitoring.monitoring_service import RunningMonitoring, running, state

from everloop_schemas.approvals import CandidateApproved
from everloop_schemas.registry import Decided
from everloop_shared.messaging.memory import MemoryBroker

pytestmark = [pytest.mark.app, pytest.mark.timeout(120)]
ROLES = (("ada", "operator"), ("bob", "operator"), ("eve", "engineer"))
REASON = "its errors are within the limits"


def test_two_people_approve_by_their_sessions_and_the_registry_says_what_it_does_not_do(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    tokens = {name: add_key(file, name, role) for name, role in ROLES}
    with served(tmp_path, "registry", "monitoring", auth="on", auth_keys=file) as services:
        come_to_approval(services, 2, bearer(tokens["eve"]))
        url = services.urls["monitoring"]

        def say(name: str, verb: str, version: str = "a-0@200", reason: str = REASON) -> httpx.Response:
            with httpx.Client(base_url=url, headers={"origin": url}, trust_env=False) as http:
                signed_in = http.post("/sign-in/key", json={"token": tokens[name]})
                http.headers["x-csrf-token"] = signed_in.json()["csrf"]
                return http.post(f"/v1/loops/market/{verb}", json={"reason": reason, "version": version})

        status = f"{url}/v1/loops/market/status"
        wait_until(lambda: httpx.get(status, headers=bearer(tokens["ada"])).json().get("rollout", {}).get("approval"))
        early, first, again = say("ada", "promote"), say("ada", "approve"), say("ada", "approve")
        other, silent = say("bob", "approve", "a-0@7"), say("bob", "approve", reason="")
        second = say("bob", "approve")
        wait_until(lambda: services.events(Decided.topic)[-1].type == "registry.rollout_changed.v1")
        decided = [e for e in services.events(Decided.topic) if isinstance(e, CandidateApproved)]

    assert [answer.status_code for answer in (early, first, other, silent, second)] == [409, 200, 409, 422, 200]
    assert "approvals" in early.json()["detail"]
    assert "the candidate is a-0@200" in other.json()["detail"]
    assert again.status_code in (200, 409), "as the registry has it"
    assert [(one.actor, one.actor_kind) for one in decided] == [("ada", "key"), ("bob", "key")]
    assert [one.data.reason for one in decided] == [REASON] * 2


async def known(monitoring: RunningMonitoring) -> None:
    """Apply the loop, and wait until monitoring knows it."""
    await monitoring.publish(state())
    async with asyncio.timeout(20):
        while (await monitoring.http.get(f"/v1/loops/{LOOP}")).status_code == 404:
            await asyncio.sleep(0.01)


async def test_a_verdict_goes_to_the_registry_alone_and_its_refusals_come_back(tmp_path: Path) -> None:
    body = {"reason": REASON, "version": "a-0@200"}
    with http_receiver() as registry:
        registry.answers, registry.headers = [401, 302, 503, 200], {"location": f"{registry.url}/elsewhere"}
        async with running(MemoryBroker(), tmp_path, registry_url=registry.url) as monitoring:
            await known(monitoring)
            path, sent = f"/v1/loops/{LOOP}/approve", {"authorization": "Bearer evl_1"}
            answers = [await monitoring.http.post(path, json=body, headers=sent) for _ in range(4)]
            unknown = await monitoring.http.post("/v1/loops/nothing/approve", json=body)
    async with running(MemoryBroker(), tmp_path / "alone") as monitoring:
        await known(monitoring)
        alone = await monitoring.http.post(path, json=body)

    assert [answer.status_code for answer in answers] == [403, 503, 503, 503]
    assert "is not the registry" in answers[3].json()["detail"]
    assert [one.path for one in registry.received] == [path] * 4
    assert {one.headers["authorization"] for one in registry.received} == {"Bearer evl_1"}
    assert registry.received[0].json == body
    assert unknown.status_code == 404
    assert (alone.status_code, "everloop approve" in alone.json()["detail"]) == (409, True)
