"""Trainings of batch lines on a real Ray: the same model as here, whatever is killed, and a run that waits for Ray."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.builders.loops import loop_spec
from tests.builders.running import until
from tests.integrations.environments import Environment
from tests.integrations.ray_cluster import BUSY, RayCluster, ray_cluster, until_ended
from tests.training.test_batch_trainer import House

from everloop_models.batch.child import ROWS
from everloop_schemas.loop_parts import ModelSpec
from everloop_training.adapters.batch_process import BatchModel, BatchProcess, TrainingFailed

pytestmark = [pytest.mark.integrations, pytest.mark.timeout(300)]
SPEC = loop_spec(schema={"a": {"type": "number"}, "b": {"type": "number"}})
FOREST = {"estimator": "sklearn.ensemble.RandomForestClassifier", "n_estimators": 20}
LIMITS = {"seconds": 120.0, "memory_bytes": 2_000_000_000, "model_bytes": 100_000_000}
WITHIN_S = 120.0


@pytest.fixture
def driven(cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> RayCluster:
    """The cluster, in an environment in which processes of this one may drive it."""
    _drive(cluster, monkeypatch)
    return cluster


def _drive(cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in cluster.variables.items():
        monkeypatch.setenv(name, value)


def _process(ray: Environment, address: str = "", **limits: float) -> BatchProcess:
    return BatchProcess(**{**LIMITS, **limits}, ray=address, python=ray.python)  # type: ignore[arg-type]


async def _trained(process: BatchProcess, folder: Path, rows: int = 1_000, **parameters: Any) -> BatchModel:
    random = Random(5)
    folder.mkdir()
    with (folder / ROWS).open("w") as file:
        for _ in range(rows):
            a, b = random.random(), random.random()
            file.write(json.dumps({"features": {"a": a, "b": b}, "label": (a > b) ^ (random.random() < 0.1)}) + "\n")
    return await process(folder, ModelSpec.model_validate({**FOREST, **parameters}), SPEC)


@pytest.mark.parametrize("auto", [False, True], ids=["client", "auto"])
async def test_a_model_that_is_trained_on_ray_is_the_one_that_is_trained_here(
    ray: Environment, driven: RayCluster, tmp_path: Path, auto: bool
) -> None:
    here = await _trained(_process(ray), tmp_path / "here")

    there = await _trained(_process(ray, "auto" if auto else driven.address), tmp_path / "there")

    assert there._replace(seconds=0) == here._replace(seconds=0)


async def test_a_training_whose_worker_is_killed_is_done_again(
    ray: Environment, driven: RayCluster, tmp_path: Path
) -> None:
    large = {"rows": 10_000, "n_estimators": 200}
    here = await _trained(_process(ray), tmp_path / "here", **large)

    work = asyncio.create_task(_trained(_process(ray, driven.address), tmp_path / "there", **large))
    [worker] = await until(lambda: driven.processes(BUSY), WITHIN_S)
    worker.kill()
    there = await work

    assert there._replace(seconds=0) == here._replace(seconds=0)


async def test_a_training_that_exceeds_its_limits_on_ray_has_the_reason_of_one_here(
    ray: Environment, driven: RayCluster, tmp_path: Path
) -> None:
    process = _process(ray, driven.address, seconds=3.0)

    with pytest.raises(TrainingFailed, match=r"took longer than 3 s and was ended: .* EVERLOOP_TRAINING_BATCH_SECONDS"):
        await _trained(process, tmp_path / "there", rows=20_000, n_estimators=2_000)


async def test_a_training_that_is_given_up_ends_on_ray_too(
    ray: Environment, driven: RayCluster, tmp_path: Path
) -> None:
    process = _process(ray, "auto")
    work = asyncio.create_task(_trained(process, tmp_path / "there", rows=20_000, n_estimators=2_000))
    [worker] = await until(lambda: driven.processes(BUSY), WITHIN_S)
    inside = await until(lambda: worker.children(recursive=True), WITHIN_S)

    work.cancel()
    await asyncio.wait([work])

    until_ended([worker, *inside])


async def test_a_run_waits_while_ray_is_away_and_is_trained_when_it_is_back(
    ray: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with ray_cluster(ray, tmp_path) as cluster:
        _drive(cluster, monkeypatch)
        house = House(tmp_path)
        async with house.trainer(_process(ray, cluster.address)):
            house.request("run-1", {**FOREST, "n_estimators": 200})
            await until(lambda: cluster.processes(BUSY), WITHIN_S)
            cluster.kill()
            await until(lambda: "a batch training waits" in caplog.text, WITHIN_S)
            assert not house.ends.reasons
            await asyncio.to_thread(cluster.start)

            await until(lambda: house.ends.models or house.ends.reasons, WITHIN_S)

    assert not house.ends.reasons
