"""A trainer elsewhere and the whole service: from the run that is due to losses of the model that was sent."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.builders.onnx_models import logistic_onnx
from tests.builders.running import http_client
from tests.training.training_harness import LOGISTIC, event, losses, running_training, spec, state

from everloop_schemas.training import ChallengeUpdated, ModelTrained, RunFinished, RunRequested
from everloop_shared.messaging.memory import MemoryBroker

pytestmark = pytest.mark.app
JSON = {"content-type": "application/json"}
PYTORCH = {"trainer": "pytorch", "window": 300, "every": 100, "epochs": 5}
GOOD = logistic_onnx([20.0, 0.0], -10.0)
"""Right about every outcome: the label is a > 0.5."""


async def lease(client: httpx.AsyncClient) -> dict[str, Any]:
    """Take a run, once the service knows the loop."""
    body = json.dumps({"trainer": "pytorch", "wait": 20})
    async with asyncio.timeout(20):
        while (answer := await client.post("/market/runs/lease", content=body, headers=JSON)).status_code != 200:
            await asyncio.sleep(0.01)
    taken: dict[str, Any] = answer.json()
    return taken


async def send(client: httpx.AsyncClient, run: str, model: bytes, **manifest: Any) -> httpx.Response:
    """Send a model."""
    headers = {"content-type": "application/onnx", "everloop-manifest": json.dumps(manifest)}
    return await client.put(f"/market/runs/{run}/model", content=model, headers=headers)


async def test_a_model_from_elsewhere_predicts_the_outcomes_that_follow_and_survives_a_restart(
    tmp_path: Path,
) -> None:
    broker, of = MemoryBroker(), spec(models=[LOGISTIC, PYTORCH])
    async with running_training(broker, tmp_path) as training, http_client(training.service, "/v1/loops") as client:
        await training.publish(state(of=of), *(event(i) for i in range(120)))
        taken = await lease(client)
        refused = await send(client, taken["run"], b"not a model")
        answer = await send(client, taken["run"], GOOD, metrics={"accuracy": 1.0}, digest="a" * 64, rows=100)
        again = await send(client, taken["run"], GOOD, metrics={"accuracy": 1.0}, digest="a" * 64, rows=100)
        other = await send(client, taken["run"], logistic_onnx([1.0, 1.0]))
        await training.publish(*(event(i) for i in range(120, 180)))
        await training.wait_until_learned(179)

    assert (taken["trigger"], taken["parameters"]) == ("outcomes", {"epochs": 5})
    assert [a.status_code for a in (refused, answer, again, other)] == [422, 200, 200, 409]
    assert again.json() == answer.json()
    line, offset = taken["line"], answer.json()["offset"]
    [finished] = {e.id: e for e in training.published(RunFinished) if e.data.run == taken["run"]}.values()
    assert finished.data.artifact is not None
    assert (finished.data.metrics, finished.data.trainer) == ({"accuracy": 1.0}, "pytorch")
    assert finished.data.data_set is not None
    assert (finished.data.data_set.digest, finished.data.data_set.rows) == ("a" * 64, 100)
    [made] = [e.data for e in training.published(ModelTrained) if e.data.reason == "trained"]
    assert (made.version, made.manifest.trainer, made.manifest.format) == (f"{line}@{offset}", "pytorch", "onnx")
    seen = losses(broker.events(ChallengeUpdated.topic))[line]
    assert sorted(seen) == list(range(offset + 1, 180))
    assert sum(seen.values()) == 0.0

    async with running_training(broker, tmp_path) as training:
        await training.publish(*(event(i) for i in range(180, 200)))
        await training.wait_until_learned(199)

    after = losses(broker.events(ChallengeUpdated.topic))[line]
    assert sorted(after) == list(range(offset + 1, 200))
    assert sum(after.values()) == 0.0


async def test_a_run_that_a_trainer_held_when_the_service_ended_is_offered_again(tmp_path: Path) -> None:
    broker, of = MemoryBroker(), spec(models=[LOGISTIC, PYTORCH])
    async with running_training(broker, tmp_path) as training, http_client(training.service, "/v1/loops") as client:
        await training.publish(state(of=of), *(event(i) for i in range(120)))
        before = await lease(client)
    async with running_training(broker, tmp_path) as training, http_client(training.service, "/v1/loops") as client:
        after = await lease(client)
        answer = await send(client, before["run"], GOOD)

    assert after["run"] == before["run"]
    assert answer.status_code == 200


async def test_a_run_that_nobody_answers_in_time_fails_and_its_line_goes_on(tmp_path: Path) -> None:
    broker, of = MemoryBroker(), spec(models=[LOGISTIC, PYTORCH])
    async with (
        running_training(broker, tmp_path, lease_s=0.05) as training,
        http_client(training.service, "/v1/loops") as client,
    ):
        await training.publish(state(of=of), *(event(i) for i in range(120)))
        taken = [(await lease(client))["run"] for _ in range(3)]
        ends = await training.until(lambda: [e for e in training.published(RunFinished) if e.data.run == taken[0]])
        late = await send(client, taken[0], GOOD)

    assert len({*taken}) == 1
    assert (ends[0].data.state, late.status_code) == ("failed", 409)
    assert "none answered in time" in str(ends[0].data.reason)
    assert [r.data.run for r in training.published(RunRequested)].count(taken[0]) == 1
