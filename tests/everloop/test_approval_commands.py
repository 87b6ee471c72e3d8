"""`everloop approve`, `reject` and `promote` on the real registry, and what the others show of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from tests.builders.events import challenge_updated, evaluation_updated, run_requested, version_state
from tests.everloop.served_services import ServedServices, served
from tests.everloop.test_command_line import STATUS, run
from tests.everloop.test_watch_command import wait_until
from tests.registry.registry_harness import LOOP_FILE, LOST, WON, YAML, count_handled, store_model

from everloop.cli import views, watching
from everloop.reports.facts import LoopFacts
from everloop_schemas.registry import Decided
from everloop_schemas.serving import VersionState

pytestmark = [pytest.mark.app, pytest.mark.timeout(120)]
NO_HEADERS: Mapping[str, str] = {}
PENDING = {"approvals": 2, "approved_by": ["ada"], "step": "before_champion", "expires": "2026-01-04T12:00:00+00:00"}
WAITING = {"stage": "canary", "share": 0.5, "candidate": "forest-0@90", "approval": PENDING}


def test_a_person_approves_promotes_and_rejects_with_a_reason(tmp_path: Path) -> None:
    with served(tmp_path, "registry") as services:
        come_to_approval(services)
        data = ("--data", str(tmp_path))
        shown = json.loads(run("approve", "market", "a-0@200", "--reason", "fine", "--json", *data).stdout)
        promoted = run("promote", "market", "--reason", "seen enough", *data)
        rejected = run("reject", "market", "--reason", "too late", *data)
        silent = run("approve", "market", *data)
        told = run("history", "market", *data).stdout

    assert (shown["stage"], shown["approval"]) == ("canary", None)
    assert "a-0@200 is champion, and no candidate is in rollout" in promoted.stdout
    assert (rejected.exit_code, "no candidate is in rollout" in rejected.stderr) == (1, True)
    assert (silent.exit_code, "--reason" in silent.stderr) == (2, True)
    assert "candidate approved" in told
    assert "by hand: seen enough" in told


def come_to_approval(services: ServedServices, approvals: int = 1, headers: Mapping[str, str] = NO_HEADERS) -> None:
    """The first model of the market loop waits before its canary; who sends `headers` applies the loop."""

    def last(*kinds: str) -> None:
        wait_until(lambda: [e.type.split(".")[1] for e in services.events(Decided.topic)][-len(kinds) :] == [*kinds])

    loop = services.urls["registry"] + "/v1/loops/market"
    rule = f"{{approval: before_canary, approvals: {approvals}, shadow"
    file = LOOP_FILE.replace("{shadow", rule)
    assert httpx.put(loop, content=file, headers={**YAML, **headers}, timeout=30).status_code == 201
    services.publish(run_requested("a-0"), challenge_updated(0, {"0": LOST, "a-0": WON}))
    last("gate_decided", "rollout_changed")
    services.publish(store_model("a-0", 200, services.folder / "artifacts", "gate"))
    last("version_registered", "rollout_changed")
    services.publish(version_state("a-0@200"))
    wait_until(lambda: count_handled(services.broker, VersionState.topic.name) == 1)
    services.publish(evaluation_updated(0, {"0": [0.5] * 200}))
    last("approval_requested")


def test_status_and_watch_say_what_a_candidate_waits_for() -> None:
    status = {**STATUS, "rollout": WAITING}

    assert views.awaited(WAITING) == ", 1 of 2 approvals before champion, until 2026-01-04T12:00"
    assert "forest-0@90, 1 of 2 approvals before champion" in watching.line(LoopFacts("market", status, {}))
    assert views.awaited(STATUS["rollout"]) == ""
