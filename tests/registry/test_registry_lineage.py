"""From a version to its run, the event behind it and the decisions; from a drift to its runs and their versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.builders.events import run_requested, version_state
from tests.builders.running import until
from tests.registry.registry_harness import (
    apply_file,
    count_handled,
    decided_types,
    publish,
    registry,
    run_to_canary,
    store_model,
)

from everloop_shared.messaging.memory import MemoryBroker

DRIFT = "drift-199"


async def test_a_version_leads_to_its_run_the_drift_behind_it_its_data_set_and_its_decisions(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with registry(broker, tmp_path) as client:
        await apply_file(client)
        await publish(broker, run_requested("b-0", causationid=DRIFT, actor="ada"))
        await run_to_canary(broker, tmp_path)

        by_version = (await client.get("/market/lineage", params={"version": "b-0@400"})).json()
        by_drift = (await client.get("/market/lineage", params={"drift": DRIFT})).json()
        by_run = (await client.get("/market/lineage", params={"run": "run-b-0"})).json()

    [run], [version] = by_version["runs"], by_version["runs"][0]["versions"]
    assert (run["run"], run["trigger"], run["causationid"], run["requested_by"]) == ("run-b-0", "drift", DRIFT, "ada")
    assert (version["version"], version["slot"], version["data_set"]["name"]) == (
        "b-0@400",
        "candidate",
        "market@0..400#1",
    )
    kinds = [decision["decision"] for decision in run["decisions"]]
    assert kinds[:2] == ["gate_decided", "rollout_changed"]
    assert {"version_registered", "rollout_changed"} <= set(kinds)
    assert by_drift["runs"] == by_run["runs"]
    assert [one["run"] for one in by_drift["runs"]] == ["run-b-0"]
    assert [one["version"] for one in by_drift["runs"][0]["versions"]] == ["b-0@400"]


async def test_the_versions_of_a_run_come_in_pages_newest_first(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with registry(broker, tmp_path) as client:
        await apply_file(client)
        await publish(broker, run_requested("a-0"))
        offsets = (10, 20, 30, 40, 50)
        for n, offset in enumerate(offsets, start=1):
            await publish(broker, store_model("a-0", offset, tmp_path / "artifacts"))
            await until(lambda: decided_types(broker).count("version_registered") == n)  # noqa: B023 - at once

        pages, before = list[list[str]](), None
        while not pages or before is not None:
            query: dict[str, Any] = {"run": "run-a-0", "limit": 2} | ({"before": before} if before else {})
            [run] = (await client.get("/market/lineage", params=query)).json()["runs"]
            pages.append([version["version"] for version in run["versions"]])
            before = run["next"]

    assert pages == [["a-0@50", "a-0@40"], ["a-0@30", "a-0@20"], ["a-0@10"]]


async def test_approvals_are_told_apart_from_the_other_decisions(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with registry(broker, tmp_path) as client:
        await apply_file(client)
        await run_to_canary(broker, tmp_path)
        await publish(broker, version_state("b-0@400", "failed"))
        await until(lambda: count_handled(broker, "serving.version_state.v1") == 3)

        [run] = (await client.get("/market/lineage", params={"version": "b-0@400"})).json()["runs"]

    assert run["decisions"][-1]["decision"] == "model_rolled_back"
    assert run["approvals"] == []


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ({}, 422, "give one of version, run and drift"),
        ({"version": "a-0@9", "run": "r"}, 422, "give one of version, run and drift"),
        ({"version": "a-0@9", "before": 3}, 422, "goes with run"),
        ({"version": "a-0@9"}, 404, "has no version 'a-0@9'"),
        ({"run": "nobody"}, 404, "has no run 'nobody'"),
        ({"run": "nobody", "limit": 1_000}, 422, "limit"),
    ],
)
async def test_what_cannot_be_answered_is_refused_with_the_field(
    query: dict[str, Any], status: int, says: str, tmp_path: Path
) -> None:
    async with registry(MemoryBroker(), tmp_path) as client:
        await apply_file(client)

        answer = await client.get("/market/lineage", params=query)

    assert (answer.status_code, says in answer.text) == (status, True), answer.text
