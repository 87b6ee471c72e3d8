"""What the registry of a real installation tells a backend, read with OpenLineage's own classes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from tests.builders.onnx_models import logistic_onnx
from tests.integrations.environments import environment
from tests.journeys.installation import Installation, installed, until
from tests.monitoring.http_receiver import http_receiver
from tests.registry.openlineage_checks import Sent, check_events, sent, told

from everloop import Everloop

pytestmark = [pytest.mark.integrations, pytest.mark.timeout(600)]
LOOP, PART, PARTS = "lineage", 300, 8
SPEC = """
loop: {loop}
task: binary
schema: {{a: {{type: number}}, b: {{type: number}}}}
models:
  - {{preset: logistic}}
  - {{estimator: sklearn.ensemble.HistGradientBoostingClassifier, window: 600, every: 200}}
rollout: {{shadow: 20 predictions, canary: [50%], step: 40 outcomes}}
"""


def test_every_event_of_a_real_loop_is_one_of_openlineage_s(tmp_path: Path) -> None:
    openlineage = environment("openlineage")
    settings = {"EVERLOOP_OPENLINEAGE_NAMESPACE": "shop", "EVERLOOP_ARCHIVE": (tmp_path / "archive").as_uri()}

    with http_receiver() as receiver:
        with installed(tmp_path / "data", EVERLOOP_OPENLINEAGE_URL=receiver.url, **settings) as installation:
            live_through(installation, tmp_path)
            assert until(lambda: ("serve", "ABORT") in told(sent(receiver)), 60)
        events = sent(receiver)

    check_events(events)
    assert {event["job"]["namespace"] for event in events} == {"shop"}
    read = subprocess.run(
        [openlineage.python, "-m", "tests.integrations.openlineage_reader"],
        input="\n".join(json.dumps(event) for event in events),
        env=openlineage.variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert read.returncode == 0, read.stderr
    counted = json.loads(read.stdout)
    assert sum(counted.values()) == len(events)
    assert counted.keys() >= {"train START", "train COMPLETE", "register COMPLETE", "rollout START", "rollout COMPLETE"}
    assert counted["serve START"] == counted["serve COMPLETE"] + 1, "the last one was aborted with its loop"
    assert {trigger_of(event) for event in events} >= {"initial", "outcomes", "drift", "submitted", "manual"}
    assert any(event["inputs"][0].get("inputFacets") for event in events if event["eventType"] == "COMPLETE")


def live_through(installation: Installation, folder: Path) -> None:
    """A first model, a batch line, a drift with its answer, a submitted model, a run by hand, a rollback, the end."""
    installation.apply(LOOP, SPEC)
    with Everloop(str(installation.folder)) as everloop:
        for part in range(PARTS):
            turned = part >= 2
            rows = [{"id": f"r{part}-{n}", "data": {"a": n % 7, "b": n % 3}} for n in range(PART)]
            answers = everloop.predict(LOOP, rows)
            everloop.label(LOOP, [{"id": one.id, "label": (n % 7 > 3) != turned} for n, one in enumerate(answers)])
            installation.counted(LOOP, PART * (part + 1))
    (folder / "given.onnx").write_bytes(logistic_onnx([0.5, 0.1]))
    features = ["--features", "a,b", "--classes", "[false, true]"]
    assert installation.everloop("submit", LOOP, str(folder / "given.onnx"), *features).returncode == 0
    assert installation.everloop("retrain", LOOP, "--reason", "asked").returncode == 0
    assert until(lambda: installation.status(LOOP)["champion"]["version"] != "0", 60)
    back = installation.everloop("rollback", LOOP, "--reason", "tried")
    assert back.returncode == 0, back.stderr
    gone = installation.everloop("delete", LOOP, "--reason", "over", "--yes")
    assert gone.returncode == 0, gone.stderr


def trigger_of(event: Sent) -> str | None:
    """Why the run of an event was requested, where it says so."""
    trigger: str | None = event["run"]["facets"].get("everloop_run", {}).get("trigger")
    return trigger
