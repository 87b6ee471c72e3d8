"""What the registry of a real installation tells a backend, read with OpenLineage's own classes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from tests.builders.onnx_models import logistic_onnx
from tests.integrations.environments import environment
from tests.journeys.installation import Installation, counts, installed, until
from tests.monitoring.http_receiver import HttpReceiver, http_receiver
from tests.registry.openlineage_checks import Sent, check_events, sent, told

from everloop import Everloop

pytestmark = [pytest.mark.integrations, pytest.mark.timeout(600)]
LOOP, PART, MOST_PARTS, LEARNED = "lineage", 300, 40, 0.8
SPEC = """
loop: {loop}
task: binary
schema: {{a: {{type: number}}, b: {{type: number}}}}
models:
  - {{estimator: river.linear_model.LogisticRegression, scale: true}}
  - {{estimator: sklearn.ensemble.HistGradientBoostingClassifier, window: 1000, every: 1000}}
rollout: {{shadow: 20 predictions, canary: [50%], step: 40 outcomes}}
"""


def test_every_event_of_a_real_loop_is_one_of_openlineage_s(tmp_path: Path) -> None:
    openlineage = environment("openlineage")
    settings = {"EVERLOOP_OPENLINEAGE_NAMESPACE": "shop", "EVERLOOP_ARCHIVE": (tmp_path / "archive").as_uri()}

    with http_receiver() as receiver:
        with installed(tmp_path / "data", EVERLOOP_OPENLINEAGE_URL=receiver.url, **settings) as installation:
            live_through(installation, receiver, tmp_path)
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
    assert is_drift_answered(events)
    assert is_submitted_registered(events)
    assert is_batch_trained(events)


def live_through(installation: Installation, receiver: HttpReceiver, folder: Path) -> None:
    """A first model, a batch line, a drift with its answer, a submitted model, a run by hand, a rollback, the end."""
    installation.apply(LOOP, SPEC)
    (folder / "given.onnx").write_bytes(logistic_onnx([0.5, 0.1]))
    parts = iter(range(MOST_PARTS))
    with Everloop(str(installation.folder)) as everloop:
        play(everloop, parts, False, enough=lambda: everloop.status(LOOP)["accuracy"]["rolling"] > LEARNED)
        play(everloop, parts, True, enough=lambda: is_drift_answered(sent(receiver)))
        features = ["--features", "a,b", "--classes", "[false, true]"]
        submitted = installation.everloop("submit", LOOP, str(folder / "given.onnx"), *features)
        assert submitted.returncode == 0, submitted.stderr
        everloop.retrain(LOOP, reason="asked")
        assert until(lambda: is_submitted_registered(sent(receiver)), 60)
        assert until(lambda: is_batch_trained(sent(receiver)), 120)
        everloop.rollback(LOOP, reason="tried")
        everloop.delete(LOOP, reason="over")


def play(everloop: Everloop, parts: Iterator[int], turned: bool, enough: Callable[[], bool]) -> None:
    """Parts of a stream with its labels, until that was enough."""
    for part in parts:
        rows = [{"id": f"r{part}-{n}", "data": {"a": n % 7, "b": n % 3}} for n in range(PART)]
        answers = everloop.predict(LOOP, rows)
        everloop.label(LOOP, [{"id": one.id, "label": (n % 7 > 3) != turned} for n, one in enumerate(answers)])
        played = PART * (part + 1)
        assert until(lambda: counts(everloop.status(LOOP)) == (played,) * 3, 120)  # noqa: B023 - asked at once
        if enough():
            return
    raise AssertionError(f"{MOST_PARTS} parts are not enough: {everloop.history(LOOP)}")


def is_drift_answered(events: Sequence[Sent]) -> bool:
    """Whether a version of a run that a drift requested was promoted."""
    drift = {event["run"]["runId"] for event in events if trigger_of(event) == "drift"}
    done = [event for event in events if event["job"]["name"] == f"{LOOP}.rollout" and event["eventType"] == "COMPLETE"]
    return any(parent_of(event) in drift for event in done)


def is_submitted_registered(events: Sequence[Sent]) -> bool:
    """Whether the version of the model that was submitted is registered: the run of its training is the parent."""
    given = {event["run"]["runId"] for event in events if trigger_of(event) == "submitted"}
    return any(parent_of(event) in given for event in events if event["job"]["name"] == f"{LOOP}.register")


def is_batch_trained(events: Sequence[Sent]) -> bool:
    """Whether a training on a data set is complete: its rows are counted."""
    done = [event for event in events if event["job"]["name"] == f"{LOOP}.train" and event["eventType"] == "COMPLETE"]
    return any("inputStatistics" in one.get("inputFacets", {}) for event in done for one in event["inputs"])


def parent_of(event: Sent) -> str | None:
    """The id of the run that is named as the parent."""
    parent: str | None = event["run"]["facets"].get("parent", {}).get("run", {}).get("runId")
    return parent


def trigger_of(event: Sent) -> str | None:
    """Why the run of an event was requested, where it says so."""
    trigger: str | None = event["run"]["facets"].get("everloop_run", {}).get("trigger")
    return trigger
