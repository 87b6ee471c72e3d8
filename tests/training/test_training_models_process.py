"""Models that were trained elsewhere, in a real worker process: they win by evidence, and outlive kill -9."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx
import pytest
from tests.registry.registry_harness import registry
from tests.training.predicting_lines import TRAINER, fitted, mixed, network
from tests.training.training_harness import RunningTraining, event, running_training, state

from everloop_models.artifact import Artifact
from everloop_models.store import ArtifactStore
from everloop_schemas.registry import Decided, ModelPromoted
from everloop_schemas.training import ChallengeUpdated, ModelTrained, RunFinished, RunRequested, StoredModel
from everloop_shared.messaging.memory import MemoryBroker
from everloop_training.domain.trained_model import TrainedModel
from everloop_training.worker.protocol.pipe import WorkerProcess

pytestmark = pytest.mark.process

LOOP_FILE = """
loop: market
task: binary
schema: {a: {type: number}, b: {type: number}}
models: [{trainer: nobody}]
"""


def agreed_losses(training: RunningTraining, line: str) -> list[int]:
    """The offsets with a loss of a line, each reported with one value however often it was reported."""
    values: dict[int, set[float]] = {}
    for update in training.published(ChallengeUpdated):
        for offset, loss in zip(update.data.offsets, update.data.losses.get(line, ()), strict=False):
            if loss is not None:
                values.setdefault(offset, set()).add(loss)
    assert all(len(seen) == 1 for seen in values.values())
    return sorted(values)


async def submit(client: httpx.AsyncClient) -> str:
    """Submit a model, and return its line."""
    headers = {"content-type": "application/onnx", "everloop-manifest": '{"name": "notebook"}'}
    answer = await client.post("/market/versions", content=network(), headers=headers)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["line"])


async def test_a_submitted_model_is_judged_wins_and_becomes_champion_though_the_worker_is_killed(
    tmp_path: Path,
) -> None:
    broker = MemoryBroker(partitions=1)
    async with (
        registry(broker, tmp_path) as client,
        running_training(broker, tmp_path, WorkerProcess.start, snapshot_outcomes=60) as training,
    ):
        (await client.put("/market", content=LOOP_FILE)).raise_for_status()
        await training.publish(*[event(i) for i in range(100)])
        await training.wait_until_learned(99)
        await training.until(lambda: broker.committed.get(("registry", ChallengeUpdated.topic.name, 0)))
        line = await submit(client)
        [run] = await training.until(
            lambda: [r.data for r in training.published(RunRequested) if r.data.trigger == "submitted"]
        )
        for start in range(100, 500, 100):
            await training.publish(*[event(i) for i in range(start, start + 100)])
            await training.wait_until_learned(start + 99)
            if start == 200:
                os.kill(training.supervisor.worker_pid, signal.SIGKILL)

        [version] = await training.until(
            lambda: [m.data for m in training.published(ModelTrained) if m.data.reason == "gate"]
        )
        [promoted] = await training.until(
            lambda: [d for d in broker.events(Decided.topic) if isinstance(d, ModelPromoted)]
        )
        assert agreed_losses(training, line) == list(range(run.requested_offset + 1, 500))
        assert (promoted.data.version, version.line, version.run) == (version.version, line, run.run)
        ends = {e.data.run: e.data.state for e in training.published(RunFinished)}
        assert ends[run.run] == "trained"


async def test_a_model_that_a_trainer_brought_is_taken_at_the_same_offset_after_kill_9(tmp_path: Path) -> None:
    broker, line = MemoryBroker(partitions=1), "pytorch-0"
    async with running_training(broker, tmp_path, WorkerProcess.start, snapshot_outcomes=60) as training:
        await training.publish(state(of=mixed(TRAINER)), *[event(i) for i in range(250)])
        await training.wait_until_learned(249)
        [asked] = await training.until(lambda: [r.data for r in training.published(RunRequested) if r.data.data_set])
        artifact, store = Artifact.of(fitted()), ArtifactStore((tmp_path / "artifacts").as_uri())
        uri = store.put(store.name("market", f"{line}@199", artifact.sha256, "onnx"), artifact.data)
        stored = StoredModel(uri=uri, sha256=artifact.sha256, size=artifact.size, format="onnx")
        learners = training.supervisor.client

        end = await learners.take_model("market", asked.run, TrainedModel(stored, asked.data_set))
        await training.publish(*[event(i) for i in range(250, 330)])
        await training.wait_until_learned(329)
        os.kill(training.supervisor.worker_pid, signal.SIGKILL)
        await training.publish(*[event(i) for i in range(330, 400)])
        await training.wait_until_learned(399)
        again = await learners.take_model("market", asked.run, TrainedModel(stored, asked.data_set))

        assert end == again
        assert end.data.offset == 249
        assert agreed_losses(training, line) == list(range(250, 400))
        assert len({e.id for e in training.published(RunFinished) if e.data.run == asked.run}) == 1
        versions = {m.data.version for m in training.published(ModelTrained) if m.data.line == line}
        assert versions == {f"{line}@249"}
