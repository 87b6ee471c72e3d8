"""The training service on real Kafka, with a batch line that is trained on a real Ray."""

from __future__ import annotations

import asyncio
import sys

import pytest
from tests.bench import stream
from tests.builders.loops import loop_state
from tests.builders.running import until as until_true
from tests.integrations.environments import Environment
from tests.integrations.ray_cluster import BUSY, RayCluster, until_ended
from tests.training.test_batch_lines_kafka import KINDS, SPEC, engine, settings, trainings
from tests.training.training_process import WITHIN_S, Published, service

from everloop_shared.messaging.routes import Engine
from everloop_training.settings import TrainingSettings

pytestmark = [pytest.mark.integrations, pytest.mark.timeout(300)]
__all__ = ["engine", "settings"]  # fixtures


async def test_a_line_is_trained_on_ray_though_a_worker_is_killed_and_the_service_stops_during_the_next_training(
    settings: TrainingSettings,
    engine: Engine,
    ray: Environment,
    cluster: RayCluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {**cluster.variables, "EVERLOOP_TRAINING_RAY": cluster.address}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "executable", ray.python)
    outcomes, published = list(stream.outcomes(1_700)), Published(engine, KINDS)
    await engine.publish([loop_state(SPEC), *outcomes[:700]])

    with service(settings) as process:
        [worker] = await until_true(lambda: cluster.processes(BUSY), WITHIN_S)
        worker.kill()
        [first] = await published.until(trainings)
        await engine.publish(outcomes[700:])
        [worker] = await until_true(lambda: cluster.processes(BUSY), WITHIN_S)
        process.terminate()
        code = await asyncio.to_thread(process.wait, 30)
        await asyncio.to_thread(until_ended, [worker])

    assert first.data.state == "trained", first.data.reason
    assert code == 0
    assert len(trainings_of := await published.until(trainings)) == 1, trainings_of
