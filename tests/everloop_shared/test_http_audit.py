"""What passes a service's guard is recorded before it is handled, with its answer, and so is what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Request
from tests.access import add_key, bearer
from tests.builders.running import run_until_exit

from everloop_schemas.audit import RequestRecorded
from everloop_schemas.envelope import Event
from everloop_shared.access.identity import current_identity
from everloop_shared.access.key_file import GrantedRole
from everloop_shared.audit import trail as trail_module
from everloop_shared.audit.trail import audit_trail
from everloop_shared.errors import Unavailable
from everloop_shared.http import HttpEndpoint
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.service import Service
from everloop_shared.settings import Settings

pytestmark = pytest.mark.app
JSON = {"content-type": "application/json"}
ROLLBACK = "/v1/loops/churn/rollback"


class Registry:
    """A service with two of registry's routes and a memory broker, which can be away."""

    def __init__(self, **settings: Any) -> None:
        self.broker, self.is_away, self.handled = MemoryBroker(), False, list[list[RequestRecorded]]()
        own, router = Settings(**settings), APIRouter()

        @router.post("/v1/loops/{loop}/rollback")
        async def roll_back(loop: str, request: Request) -> dict[str, str]:
            self.handled.append(self.records)
            await request.body()
            if loop == "elsewhere":
                current_identity().require("rollout.change", "another")
            return {}

        @router.get("/v1/loops/{loop}")
        async def get_loop(loop: str) -> dict[str, str]:
            return {}

        self.endpoint = HttpEndpoint("registry", own, router, trail=audit_trail("registry", own, self.publish))
        self.remarks = ["source x of loop churn is not read"]
        self.service = Service("registry", own, endpoints=[self.endpoint], remarks=[lambda: self.remarks])

    async def publish(self, events: Sequence[Event]) -> None:
        """As an engine."""
        if self.is_away:
            raise Unavailable("no broker")
        await self.broker.engine("registry").publish(events)

    @property
    def records(self) -> list[RequestRecorded]:
        """All records of the audit, in the order of their times."""
        found = [event for event in self.broker.events(RequestRecorded.topic) if isinstance(event, RequestRecorded)]
        return sorted(found, key=lambda record: record.time)


@asynccontextmanager
async def served(**settings: Any) -> AsyncIterator[tuple[Registry, httpx.AsyncClient]]:
    """Such a service, and a client of it; what it has noted is on the log afterwards."""
    registry = Registry(port=0, **settings)
    async with run_until_exit(registry.service):
        url = f"http://127.0.0.1:{registry.endpoint.port}"
        async with httpx.AsyncClient(base_url=url, headers=JSON) as client:
            yield registry, client


async def test_a_command_is_recorded_before_it_runs_with_who_asked_from_where_and_what_was_answered(
    tmp_path: Path,
) -> None:
    token = add_key(tmp_path / "keys.json", "alice", "operator")
    sent = {**bearer(token), "x-request-id": "ticket-7", "x-forwarded-for": "6.6.6.6", "forwarded": "for=6.6.6.6"}

    async with served(auth="on", auth_keys=tmp_path / "keys.json") as (registry, client):
        answered = await client.post(f"{ROLLBACK}?secret=query", json={"reason": "secret body"}, headers=sent)
        read = await client.get("/v1/loops/churn", headers=bearer(token))

    [[before]] = registry.handled
    requested, after = registry.records
    assert (answered.status_code, read.status_code) == (200, 200)
    assert (before, requested.data.phase, after.data.phase, after.data.status) == (
        requested,
        "requested",
        "answered",
        200,
    )
    assert (after.subject, after.loop, after.source) == (requested.subject, "churn", "everloop/registry")
    assert (after.actor, after.actor_kind) == ("alice", "key")
    assert token.startswith(f"{after.actor_source}_")
    assert (after.data.address, after.data.request) == ("127.0.0.1", "ticket-7")
    assert (after.data.action, after.data.method, after.data.route) == (
        "rollout.change",
        "POST",
        "/v1/loops/{loop}/rollback",
    )
    written = b"".join(record.encode() for record in registry.records)
    assert not [text for text in (b"secret", token.encode(), b"6.6.6.6") if text in written]


async def test_every_refusal_is_recorded_whatever_was_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    viewer, operator = add_key(file, "vera", "viewer"), add_key(file, "otto", "operator")

    async with served(auth="on", auth_keys=file) as (registry, client):
        statuses = [
            (await client.get("/v1/loops/churn")).status_code,
            (await client.post(ROLLBACK, content=b"{}", headers=bearer(viewer))).status_code,
            (await client.get("/nothing/at/all", headers=bearer("evl_0123456789_00"))).status_code,
        ]
        async with httpx.AsyncClient(
            base_url=client.base_url, headers=JSON, transport=httpx.AsyncHTTPTransport(local_address="127.0.0.2")
        ) as other:
            foreign = {**bearer(operator), "host": "evil.example"}
            statuses.append((await other.post(ROLLBACK, content=b"{}", headers=foreign)).status_code)
            page = {**bearer(operator), "origin": "https://evil.example"}
            statuses.append((await other.post(ROLLBACK, content=b"{}", headers=page)).status_code)

    refused = [record for record in registry.records if record.data.phase == "refused"]
    told = [(r.data.status, r.data.refused, r.actor, r.loop, r.data.action) for r in refused]
    assert (statuses, registry.handled) == ([401, 403, 401, 403, 403], [])
    assert told == [
        (401, "not_authenticated", "anonymous", "churn", "loops.read"),
        (403, "not_permitted", "vera", "churn", "rollout.change"),
        (401, "token_not_valid", "anonymous", "*", ""),
        (403, "misdirected_request", "anonymous", "churn", "rollout.change"),
        (403, "forbidden", "anonymous", "churn", "rollout.change"),
    ]
    assert {record.data.address for record in refused} == {"127.0.0.1", "127.0.0.2"}


async def test_what_a_handler_refuses_is_the_answer_of_its_record(tmp_path: Path) -> None:
    mine = GrantedRole(role="operator", loops=("elsewhere",))
    token = add_key(tmp_path / "keys.json", "alice", mine)

    async with served(auth="on", auth_keys=tmp_path / "keys.json") as (registry, client):
        refused = await client.post("/v1/loops/elsewhere/rollback", content=b"{}", headers=bearer(token))
        text = {**bearer(token), "content-type": "text/plain"}
        unread = await client.post("/v1/loops/elsewhere/rollback", content=b"{}", headers=text)

    assert [(r.data.phase, r.data.status, r.data.refused, r.loop) for r in registry.records] == [
        ("requested", None, None, "elsewhere"),
        ("answered", 403, "not_permitted", "elsewhere"),
    ]
    assert (refused.status_code, unread.status_code) == (403, 415), "what is not read does nothing"


async def test_a_request_that_cannot_be_recorded_does_nothing_and_others_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trail_module, "WITHIN_S", 0.2)

    async with served(audit="on") as (registry, client):
        registry.is_away = True
        refused = await client.post(ROLLBACK, content=b"{}")
        read = await client.get("/v1/loops/churn")
        handled_before = len(registry.handled)
        registry.is_away = False
        monkeypatch.setattr(trail_module, "WITHIN_S", 10.0)
        later = await client.post(ROLLBACK, content=b"{}")

    assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (503, "not_recorded", "1")
    assert (handled_before, read.status_code, later.status_code) == (0, 200, 200)
    assert [record.data.phase for record in registry.records] == ["requested", "answered"]


@pytest.mark.parametrize(("settings", "is_recorded"), [({}, False), ({"audit": "on"}, True), ({"audit": "off"}, False)])
async def test_the_audit_is_on_where_access_control_is_unless_it_is_said(
    settings: dict[str, Any], is_recorded: bool, tmp_path: Path
) -> None:
    add_key(tmp_path / "keys.json", "alice", "admin")
    guarded = Settings(auth="on", auth_keys=tmp_path / "keys.json", **settings)

    async with served(**settings) as (registry, client):
        answered = await client.post(ROLLBACK, content=b"{}")

    assert (answered.status_code, bool(registry.records)) == (200, is_recorded)
    assert guarded.has_audit is (settings.get("audit") != "off")


async def test_readiness_names_loops_to_those_alone_who_may_read_them(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    viewer, publisher = add_key(file, "vera", "viewer"), add_key(file, "app", "publisher")

    async with served(auth="on", auth_keys=file) as (registry, client):
        told = [
            (await client.get("/readyz", headers=headers)).text
            for headers in ({}, bearer(publisher), bearer("evl_0123456789_00"), bearer(viewer))
        ]
        registry.remarks.clear()
        nothing = (await client.get("/readyz")).text
    async with served() as (_, client):
        open_to_all = (await client.get("/readyz")).text

    assert set(told[:3]) == {"ok\nremarks: 1; a token with the role viewer for all loops reads them"}
    assert told[3] == open_to_all == "ok\nsource x of loop churn is not read"
    assert nothing == "ok"
