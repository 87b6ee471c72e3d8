"""Trainers of PyTorch and TensorFlow networks, each in its own environment: from a drift to the champion.

`make trainers` installs the environments (2.5 GB) and runs this; EVERLOOP_TRAINERS is the folder that they are in.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.journeys.installation import Installation, installed, until

from everloop import Everloop

ROOT = Path(__file__).parents[2]
FOLDER = os.environ.get("EVERLOOP_TRAINERS", "")
SPEC = """
loop: {loop}
task: binary
schema: {{a: {{type: number}}, b: {{type: number, missing: "null"}}, shop: {{type: string}}}}
models: [{{preset: logistic}}, {{trainer: {loop}, window: 3000 outcomes, every: 4000 outcomes, epochs: 60}}]
rollout: {{shadow: 50 predictions, canary: [50%], step: 50 outcomes}}
"""
BATCH, LINEAR_ROWS, MOST_ROWS = 100, 1_300, 6_000

pytestmark = [
    pytest.mark.trainers,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not FOLDER, reason="the environments are not installed: make trainers"),
]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One installation for both."""
    with installed(tmp_path_factory.mktemp("trainers")) as started:
        yield started


class Shop:
    """A stream whose concept turns from one that a line separates into one that no line does."""

    def __init__(self, loop: str, client: Everloop) -> None:
        self._loop, self._client, self._random, self.rows = loop, client, random.Random(20), 0
        self.right: list[bool] = []

    def send(self, linear: bool) -> None:
        """Send a batch: predictions first, then their labels."""
        entries, labels = [], []
        for i in range(self.rows, self.rows + BATCH):
            a, b = self._random.random(), self._random.random()
            data = {"a": a, "b": b, "shop": self._random.choice(["north", "south"])}
            entries.append({"id": f"{self._loop}-{i}", "data": data})
            labels.append({"id": f"{self._loop}-{i}", "label": a > 0.5 if linear else (a > 0.5) != (b > 0.5)})
        predicted = self._client.predict(self._loop, entries)
        self._client.label(self._loop, labels)
        self.right += [p.prediction == label["label"] for p, label in zip(predicted, labels, strict=True)]
        self.rows += BATCH


@pytest.mark.parametrize("name", ["pytorch", "tensorflow"])
def test_after_a_drift_a_network_that_was_trained_elsewhere_becomes_champion(
    installation: Installation, name: str, tmp_path: Path
) -> None:
    installation.apply(name, SPEC)
    command = [f"{FOLDER}/{name}/python", str(ROOT / "deploy" / "trainers" / name / "trainer.py"), name]
    env = {**installation.environment, "EVERLOOP_SOURCE": str(ROOT)}
    log = (tmp_path / "trainer.log").open("w+")
    process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        with Everloop(str(installation.folder)) as client:
            shop = Shop(name, client)
            while shop.rows < MOST_ROWS and not _champion(client, name).startswith(f"{name}-"):
                shop.send(linear=shop.rows < LINEAR_ROWS)
                time.sleep(0.5)
                # outcomes come no faster than the trainer answers: a newer run would take the place of its run
                until(lambda: not _open_runs(client, name), 60)
            champion, taken_over = _champion(client, name), len(shop.right)
            for _ in range(4):
                shop.send(linear=False)
            versions = client.request("registry", "GET", f"/v1/loops/{name}/versions").json()["versions"]
            runs = client.request("training", "GET", f"/v1/loops/{name}/runs").json()["runs"]
    finally:
        process.terminate()
        process.wait(20)
        log.seek(0)
        said = log.read()[-3_000:]
        log.close()

    assert champion.startswith(f"{name}-"), said
    answered = [r for r in runs if r["model"].get("trainer") == name and r["data_set"] and r["state"] == "trained"]
    assert "drift" in {run["trigger"] for run in answered}, runs
    [serving] = [v for v in versions if v["version"] == champion]
    manifest: dict[str, Any] = serving["manifest"]
    assert (manifest["format"], manifest["trainer"]) == ("onnx", name)
    assert manifest["data_set"]["digest"]
    assert sum(shop.right[taken_over:]) > 0.8 * len(shop.right[taken_over:])


def _open_runs(client: Everloop, loop: str) -> list[Any]:
    runs = client.request("training", "GET", f"/v1/loops/{loop}/runs").json()["runs"]
    return [run for run in runs if run["data_set"] and run["state"] == "running"]


def _champion(client: Everloop, loop: str) -> str:
    return str(client.request("registry", "GET", f"/v1/loops/{loop}").json()["champion"]["version"])
