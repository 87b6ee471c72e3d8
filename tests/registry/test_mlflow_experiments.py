"""Experiments over MLflow's API, asked by MLflow's own client."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.registry.mlflow_api import mlflow_registry
from tests.registry.registry_harness import apply_file

from everloop_shared.messaging.memory import MemoryBroker

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("no_retries"),
]


async def test_every_loop_is_an_experiment(tmp_path: Path) -> None:
    async with mlflow_registry(MemoryBroker(), tmp_path) as registry:
        await apply_file(registry.http)

        by_name = await registry.call("get_experiment_by_name", "market")
        by_id = await registry.call("get_experiment", by_name.experiment_id)

    assert by_name.experiment_id.isdigit()
    assert (by_id.name, by_id.lifecycle_stage) == ("market", "active")


async def test_an_own_experiment_is_created_once(tmp_path: Path) -> None:
    async with mlflow_registry(MemoryBroker(), tmp_path) as registry:
        made = await registry.call("create_experiment", "a lab / of ours", tags={"team": "risk"})

        found = await registry.call("get_experiment", made)
        again = await registry.refused("create_experiment", "a lab / of ours")
        unknown = await registry.refused("get_experiment", "12345")

    assert (found.name, found.tags) == ("a lab / of ours", {"team": "risk"})
    assert again[0] == "RESOURCE_ALREADY_EXISTS"
    assert unknown[0] == "RESOURCE_DOES_NOT_EXIST"


async def test_experiments_are_searched_renamed_deleted_and_restored(tmp_path: Path, databases: object) -> None:
    from mlflow.entities import ViewType

    async with mlflow_registry(MemoryBroker(), tmp_path) as registry:
        await apply_file(registry.http)
        lab = await registry.call("create_experiment", "lab")
        await registry.call("set_experiment_tag", lab, "team", "risk")
        await registry.call("rename_experiment", lab, "laboratory")
        every = await registry.call("search_experiments")
        tagged = await registry.call("search_experiments", filter_string="tags.team = 'risk'")
        liked = await registry.call("search_experiments", filter_string="name LIKE 'lab%'", order_by=["name DESC"])
        first = await registry.call("search_experiments", max_results=1)
        await registry.call("delete_experiment", lab)
        active = await registry.call("search_experiments")
        deleted = await registry.call("search_experiments", view_type=ViewType.DELETED_ONLY)
        await registry.call("restore_experiment", lab)
        back = await registry.call("get_experiment", lab)
        loops = await registry.call("get_experiment_by_name", "market")
        of_loop = await registry.refused("delete_experiment", loops.experiment_id)
        taken = await registry.refused("rename_experiment", lab, "market")
        unknown = await registry.call("get_experiment_by_name", "nowhere")

    assert {e.name for e in every} == {"Default", "market", "laboratory"}
    assert [e.name for e in tagged] == [e.name for e in liked] == ["laboratory"]
    assert len(first) == 1
    assert first.token
    assert "laboratory" not in {e.name for e in active}
    assert [e.name for e in deleted] == ["laboratory"]
    assert (back.lifecycle_stage, unknown) == ("active", None)
    assert (of_loop[0], taken[0]) == ("INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS")
    assert "everloop delete market" in of_loop[1]
