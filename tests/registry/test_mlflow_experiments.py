"""Experiments over MLflow's API, asked by MLflow's own client."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.registry.mlflow_api import mlflow_registry
from tests.registry.registry_harness import apply_file

from everloop_shared.messaging.memory import MemoryBroker

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("no_retries")]


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
