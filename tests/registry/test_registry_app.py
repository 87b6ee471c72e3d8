"""The whole service over the memory broker, on SQLite and on PostgreSQL: commands, queries, chain, as-of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.builders.events import challenge_updated, evaluation_updated, run_requested, version_state
from tests.builders.running import until
from tests.registry.registry_harness import (
    LOOP_FILE,
    LOST,
    WON,
    YAML,
    apply_file,
    count_handled,
    decided_types,
    publish,
    registry,
    run_to_canary,
    store_model,
)

from everloop_registry.handlers.command_context import command_context
from everloop_schemas.registry import Decided, LoopState
from everloop_shared.clock import system_clock
from everloop_shared.commands import ANONYMOUS, Actor
from everloop_shared.messaging.memory import MemoryBroker

pytestmark = [pytest.mark.app, pytest.mark.usefixtures("databases")]


async def test_a_new_loop_is_201_the_same_again_200_and_a_change_the_next_revision(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with registry(broker, tmp_path) as client:
        answers = [
            await apply_file(client),
            await apply_file(client),
            await apply_file(client, LOOP_FILE + "gate: {confidence: 0.99}\n"),
        ]

    assert [(a.status_code, a.json()["revision"]) for a in answers] == [(201, 1), (200, 1), (200, 2)]
    assert decided_types(broker) == ["loop_applied", "loop_applied"]
    assert [e.revision for e in broker.events(LoopState.topic)] == [1, 2]


@pytest.mark.parametrize(
    ("text", "loop", "fields"),
    [
        (LOOP_FILE, "other", ["loop"]),
        (LOOP_FILE + "models: [{estimator: os.system}]\n", "market", ["models.0.estimator"]),
        (LOOP_FILE + "models: [{estimator: river.cluster.KMeans}]\n", "market", ["models.0.estimator"]),
        (LOOP_FILE + "models: [{preset: logistic, colour: 3}]\n", "market", ["models.0.colour"]),
        (LOOP_FILE + "features: [{name: x, expr: 'price - nothing'}]\n", "market", ["features.0.expr"]),
    ],
)
async def test_an_invalid_loop_file_is_422_by_field(
    tmp_path: Path, text: str, loop: str, fields: Sequence[str]
) -> None:
    broker = MemoryBroker()
    async with registry(broker, tmp_path) as client:
        answer = await apply_file(client, text, loop)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [e["field"] for e in answer.json()["errors"]] == fields
    assert decided_types(broker) == []


async def test_other_endpoints_refuse_with_a_status(tmp_path: Path) -> None:
    async with registry(MemoryBroker(), tmp_path) as client:
        await apply_file(client)
        answers = [
            await client.put("/market", content="<a/>", headers={"content-type": "application/xml"}),
            await client.put("/market", content=b"x" * 300_000, headers=YAML),
            await client.get("/nowhere"),
            await client.get("/market", params={"as_of": "yesterday"}),
            await client.get("/market", params={"as_of": "2001-01-01T00:00:00Z"}),
            await client.post("/market/rollback", json={}),
            await client.post("/market/rollback", json={"reason": "x"}),
            await client.post("/market/rollback", json={"reason": "x", "to": "b@1"}),
            await client.post("/nowhere/resume", json={"reason": "x"}),
        ]

    assert [a.status_code for a in answers] == [415, 413, 404, 422, 404, 422, 409, 404, 404]


async def test_every_query_shows_a_loop_with_a_champion_and_a_canary(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with registry(broker, tmp_path) as client:
        await apply_file(client)
        await run_to_canary(broker, tmp_path)
        loop, rollout = (await client.get("/market")).json(), (await client.get("/market/rollout")).json()
        versions = (await client.get("/market/versions")).json()["versions"]
        loops = (await client.get("http://localhost/v1/loops")).json()["loops"]

    assert (loop["champion"]["version"], loop["candidate"]["version"]) == ("a-0@200", "b-0@400")
    assert (rollout["stage"], rollout["share"], rollout["urgent"]) == ("canary", 0.25, True)
    assert [(v["version"], v["slot"]) for v in versions] == [("a-0@200", "champion"), ("b-0@400", "candidate")]
    assert [(x["loop"], x["champion"], x["stage"]) for x in loops] == [("market", "a-0@200", "canary")]


async def test_history_is_the_chain_as_it_is_on_the_topic(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with registry(broker, tmp_path) as client:
        await apply_file(client)
        await run_to_canary(broker, tmp_path)
        history = (await client.get("/market/history")).json()["decisions"]

    partition = broker.partition_for(b"market")
    wires = [r.value or b"" for r in broker.log(Decided.topic.name, partition)]
    assert [json.loads(wire) for wire in wires] == history
    assert [d["prevhash"] for d in history] == ["0" * 64, *(sha256(w).hexdigest() for w in wires[:-1])]


async def test_as_of_a_moment_is_the_fold_of_the_decisions_up_to_then(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with registry(broker, tmp_path) as client:
        await apply_file(client)
        await run_to_canary(broker, tmp_path)
        history = (await client.get("/market/history")).json()["decisions"]
        seen: list[Any] = []
        for decision in history:
            at = {"as_of": decision["time"]}
            loop = (await client.get("/market", params=at)).json()
            versions = (await client.get("/market/versions", params=at)).json()["versions"]
            seen.append((loop["champion"]["version"], loop["stage"], loop["winner"], len(versions)))
        just_before = datetime.fromisoformat(history[0]["time"]) - timedelta(microseconds=1)
        before = await client.get("/market", params={"as_of": just_before.isoformat()})
        unescaped = await client.get("/market?as_of=" + history[-1]["time"])

    assert seen[0] == ("0", "idle", None, 0)
    assert ("0", "training", "a-0", 0) in seen
    assert seen[-1] == ("a-0@200", "canary", None, 2)
    assert before.status_code == 404
    assert unescaped.status_code == 200


async def test_rollback_and_resume_are_published_and_answered(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with registry(broker, tmp_path) as client:
        await apply_file(client)
        await run_to_canary(broker, tmp_path)
        back = await client.post("/market/rollback", json={"reason": "looks wrong"})
        resumed = await client.post("/market/resume", json={"reason": "fixed"})

    assert (back.status_code, back.json()["rolled_back"], back.json()["pinned"]) == (200, "a-0@200", True)
    assert back.json()["champion"]["version"] == "0"
    assert resumed.json()["pinned"] is False
    assert decided_types(broker)[-2:] == ["model_rolled_back", "loop_resumed"]


async def test_an_approval_is_asked_for_given_and_shown(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with registry(broker, tmp_path) as client:
        await apply_file(client, LOOP_FILE.replace("{shadow", "{approval: before_canary, approval_within: 3d, shadow"))
        await publish(broker, run_requested("a-0"), challenge_updated(0, {"0": LOST, "a-0": WON}))
        await until(lambda: decided_types(broker)[-1:] == ["rollout_changed"])
        await publish(broker, store_model("a-0", 200, tmp_path / "artifacts", "gate"))
        await until(lambda: decided_types(broker)[-2:] == ["version_registered", "rollout_changed"])
        await publish(broker, version_state("a-0@200"))
        await until(lambda: count_handled(broker, "serving.version_state.v1") == 1)
        await publish(broker, evaluation_updated(0, {"0": [0.5] * 200}))
        await until(lambda: decided_types(broker)[-1:] == ["approval_requested"])
        waiting = (await client.get("/market/rollout")).json()["approval"]
        other = await client.post("/market/approve", json={"reason": "fine", "version": "b-0@1"})
        given = await client.post("/market/approve", json={"reason": "fine"})
        promoted = await client.post("/market/promote", json={"reason": "enough seen"})
        rejected = await client.post("/market/reject", json={"reason": "too late"})
        silent = await client.post("/market/reject", json={})

    states = [e for e in broker.events(LoopState.topic) if isinstance(e, LoopState) and e.data.approval]
    assert (waiting["version"], waiting["step"], waiting["approvals"]) == ("a-0@200", "before_canary", 1)
    assert [e.data.approval and e.data.approval.expires.isoformat() for e in states] == [waiting["expires"]]
    assert (other.status_code, given.status_code, given.json()["stage"]) == (409, 200, "canary")
    assert (promoted.status_code, promoted.json()["champion"]["version"]) == (200, "a-0@200")
    assert (rejected.status_code, silent.status_code) == (409, 422)
    assert decided_types(broker)[-3:] == ["candidate_approved", "rollout_changed", "model_promoted"]


async def test_every_decision_names_its_actor(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with registry(broker, tmp_path) as client:
        await apply_file(client)
        await run_to_canary(broker, tmp_path)
        await client.post("/market/rollback", json={"reason": "looks wrong"})

    actors = {d.type.split(".")[1]: d.actor for d in broker.events(Decided.topic) if isinstance(d, Decided)}
    by_command = {"loop_applied", "model_rolled_back"}
    assert {kind for kind, actor in actors.items() if actor == "anonymous"} == by_command
    assert {actor for kind, actor in actors.items() if kind not in by_command} == {"everloop/registry"}


async def test_a_loop_shows_what_instances_serve_that_cannot_load_the_champion(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with registry(broker, tmp_path) as client:
        await apply_file(client)
        await publish(broker, run_requested("a-0"), challenge_updated(0, {"0": LOST, "a-0": WON}))
        await until(lambda: decided_types(broker)[-1:] == ["rollout_changed"])
        await publish(
            broker, store_model("a-0", 200, tmp_path / "artifacts", "gate"), evaluation_updated(0, {"0": [0.5] * 200})
        )
        await until(lambda: decided_types(broker)[-1:] == ["model_promoted"])
        await publish(broker, version_state("a-0@200", "failed", serving="0"))
        await until(lambda: decided_types(broker)[-1:] == ["model_rolled_back"])
        back = (await client.get("/market")).json()
        await client.post("/market/rollback", json={"reason": "a person insists", "to": "a-0@200"})
        await publish(
            broker,
            version_state("a-0@200", "failed", serving="0"),
            version_state("a-0@200", "failed", "two", serving="0"),
        )
        await until(lambda: count_handled(broker, "serving.version_state.v1") == 3)
        broken = (await client.get("/market")).json()
        await publish(broker, version_state("a-0@200", "ready"))
        await until(lambda: count_handled(broker, "serving.version_state.v1") == 4)
        mended = (await client.get("/market")).json()

    substitute = {"version": "0", "reason": "test"}
    assert (back["champion"]["version"], back["champion"]["serving"]) == ("0", {})
    assert [found["champion"]["version"] for found in (broken, mended)] == ["a-0@200"] * 2
    assert broken["champion"]["serving"] == {"serving-1": substitute, "two": substitute}
    assert mended["champion"]["serving"] == {"two": substitute}


def test_a_decision_names_who_gave_the_command_and_how_that_is_known() -> None:
    known = Actor("ci", "key", "evl_0123456789")

    by_key = command_context(system_clock, known)
    by_anybody = command_context(system_clock, ANONYMOUS)

    assert (by_key.actor, by_key.actor_kind, by_key.actor_source) == ("ci", "key", "evl_0123456789")
    assert (by_anybody.actor, by_anybody.actor_kind, by_anybody.actor_source) == ("anonymous", None, None)
