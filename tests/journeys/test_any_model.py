"""Models of every kind challenge one champion on the same outcomes, and the one that wins serves, with its lineage."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.journeys.installation import FIELDS, SPEC, Installation, until

from everloop import Everloop

pytestmark = [pytest.mark.journey, pytest.mark.frameworks, pytest.mark.timeout(400)]
ROOT = Path(__file__).parents[2]
LEARNED, STEP, STEPS = 600, 300, 8
RIVER = "models: [{{estimator: river.linear_model.LogisticRegression, scale: true}}]"
MODELS = """models:
  - {{estimator: river.linear_model.LogisticRegression}}
  - estimator: sklearn.ensemble.HistGradientBoostingClassifier
    window: 1000 outcomes
    every: 200 outcomes
    max_iter: 60
  - {{trainer: network, window: 1000 outcomes, every: 300 outcomes, units: 8}}"""
KINDS = ("logistic-regression", "hist-gradient-boosting-classifier", "network", "forest")


def test_models_of_every_kind_challenge_and_the_one_that_wins_serves_with_its_lineage(
    installation: Installation, electricity: Path
) -> None:
    # given: a champion of River's, a batch line, a network trained elsewhere, and a forest from a notebook
    apply_models_of_every_kind(installation, "every-kind")
    with network_trainer(installation, "every-kind"):
        installation.replay("every-kind", installation.rows(electricity, 0, LEARNED))
        assert installation.counted("every-kind", LEARNED)["outcomes"] == LEARNED
        brought = run_notebook(installation, "every-kind")

        # when: outcomes follow on which others are better than the champion's line
        played = play_until_another_kind_is_champion(installation, electricity)

    # then: all of them were compared on the same outcomes, and the winner came by gate and rollout
    status = installation.counted("every-kind", played)
    champion = status["champion"]["version"]
    assert not champion.startswith(("0", "logistic-regression")), status
    losses = [e["data"]["losses"] for e in installation.read("training.challenge_updated.v1", "every-kind")]
    compared = {line.rpartition("-")[0] for update in losses for line in update}
    assert compared >= set(KINDS)
    decided = installation.read("registry.decided.v1", "every-kind")
    line = champion.partition("@")[0]
    kinds = [e["type"] for e in decided if line in json.dumps(e)]
    assert {f"registry.{k}.v1" for k in ("gate_decided", "rollout_changed", "model_promoted")} <= set(kinds)

    # then: it serves by REST, and what led to it can be read
    url = installation.services()["serving"]["url"] + "/v1/loops/every-kind/predict"
    assert until(lambda: served_line(url, dict.fromkeys(FIELDS, 0.5)) == line, 20)
    model = next(e["data"]["model"] for e in decided if e.get("data", {}).get("model", {}).get("version") == champion)
    assert model["manifest"]["format"] == "onnx"
    again = installation.everloop("rebuild", "every-kind", champion)
    if line.startswith("forest"):
        assert model["run"] == brought["run"]
    else:
        assert_data_set_is_the_same_now(installation, model["manifest"]["data_set"])
    told = "trained elsewhere" if line.startswith(("forest", "network")) else "is the same when it is learned again"
    assert told in again.stdout + again.stderr

    # then: what it predicted last is the same when its artifact predicts again
    made = installation.read("serving.prediction_made.v1", "every-kind")
    by_champion = [one["subject"] for one in made if one["data"]["version"] == champion]
    explained = installation.everloop("explain-decision", by_champion[-1], "--loop", "every-kind", "--json")
    assert (explained.returncode, json.loads(explained.stdout)["replay"]["identical"]) == (0, True), explained.stdout

    # then: why it says what it says stands in the answer, the record and monitoring, and what versions depend on too
    assert_an_explained_prediction_is_seen_with_its_label(installation, line)
    path = installation.services()["monitoring"]["url"] + "/v1/loops/every-kind/importance"
    weighed = {one["version"]: one["importance"] for one in httpx.get(path).json()["versions"]}
    assert weighed.keys() >= {brought["version"], champion}, "a submitted version, and the one that won"
    assert all(sum(shares.values()) == pytest.approx(1) for shares in weighed.values())


def apply_models_of_every_kind(installation: Installation, loop: str) -> None:
    """Apply the electricity loop with three kinds of models; the fourth comes later."""
    assert RIVER in SPEC
    installation.apply(loop, SPEC.replace(RIVER, MODELS))


@contextmanager
def network_trainer(installation: Installation, loop: str) -> Iterator[None]:
    """A trainer that runs meanwhile, as a program of its own."""
    command = [sys.executable, "-m", "tests.journeys.network_trainer", loop]
    process = subprocess.Popen(command, cwd=ROOT, env=_environment(installation))
    try:
        yield
        assert process.poll() is None, "the trainer has ended"
    finally:
        process.terminate()
        process.wait(20)


def run_notebook(installation: Installation, loop: str) -> dict[str, Any]:
    """Bring a forest by MLflow's client; its run and version."""
    command = [sys.executable, "-m", "tests.journeys.notebook", loop, installation.services()["registry"]["url"]]
    done = subprocess.run(
        command, cwd=ROOT, env=_environment(installation), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    brought: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return brought


def play_until_another_kind_is_champion(installation: Installation, electricity: Path) -> int:
    """Play on, a part at a time; how many rows have been played."""
    played = LEARNED
    for _ in range(STEPS):
        installation.replay("every-kind", installation.rows(electricity, played, played + STEP))
        played += STEP
        version = installation.counted("every-kind", played)["champion"]["version"]
        if not version.startswith(("0", "logistic-regression")):
            break
    return played


def served_line(url: str, fields: dict[str, float]) -> str:
    """The line of the version that answers a request."""
    answer: dict[str, str] = httpx.post(url, json={"data": fields}).raise_for_status().json()
    return answer["version"].partition("@")[0]


def assert_an_explained_prediction_is_seen_with_its_label(installation: Installation, line: str) -> None:
    """What explains a prediction is the same in the answer, in the record on Kafka, and in monitoring."""
    urls = {name: installation.services()[name]["url"] for name in ("serving", "ingest", "monitoring")}
    path, body = "/v1/loops/every-kind", {"id": "why", "data": dict.fromkeys(FIELDS, 0.5), "explain": True}

    answer = httpx.post(f"{urls['serving']}{path}/predict", json=body).raise_for_status().json()
    label = {"id": "why", "label": answer["prediction"]}
    httpx.post(f"{urls['ingest']}{path}/labels", json=label).raise_for_status()

    def shown() -> dict[str, Any]:
        latest = httpx.get(f"{urls['monitoring']}{path}/predictions").raise_for_status().json()
        found = [one for one in latest if one["id"] == "why" and one["label"] is not None]
        return dict(found[0]) if found else {}

    until(lambda: bool(shown()), 30)
    explanation = answer["explanation"]
    score = explanation["base"] + sum(explanation["contributions"].values())
    likely = 1 / (1 + math.exp(-score)) if explanation["scale"] == "log_odds" else score
    assert explanation["method"] == ("permutation" if line.startswith("network") else "tree")
    assert likely == pytest.approx(answer["probabilities"][explanation["of"]], abs=1e-5)
    records = installation.read("serving.prediction_made.v1", "every-kind")
    assert [e["data"]["explanation"] for e in records if e["subject"] == "why"] == [explanation]
    assert (shown()["explanation"], shown()["label"], shown()["correct"]) == (explanation, answer["prediction"], True)


def assert_data_set_is_the_same_now(installation: Installation, trained_on: dict[str, Any]) -> None:
    """The data set of a run has the same digest when it is read again."""
    name = "{loop}@{start}..{end}#{revision}".format(**trained_on)
    with Everloop(training=installation.services()["training"]["url"]) as everloop:
        assert everloop.dataset(name).digest == trained_on["digest"]


def _environment(installation: Installation) -> dict[str, str]:
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "ORT_DISABLE_TELEMETRY": "1"}
    return {**installation.environment, **quiet}
