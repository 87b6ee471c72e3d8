"""Lineage as it is collected from training and registry, before any standard's exporter writes it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.everloop.test_command_line import run

from everloop.lineage.collect import collect
from everloop.lineage.graph import DataSet

DIGEST, LINE, BATCH = "d" * 64, "logistic-0", "forest-0"


def version(name: str, run: str, end: int, data_set: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A version as the registry answers it; of a line that learns each outcome where it has no data set."""
    manifest = {
        "loop_revision": 1,
        "model": {"preset": "logistic"},
        "start_offset": 0,
        "end_offset": end,
        "libraries": {"river": "0.26.1"},
        "format": "onnx" if data_set else "river",
        "data_set": data_set,
        "metrics": {"accuracy": 0.9} if data_set else {},
    }
    fields = {
        "version": name,
        "line": name.partition("@")[0],
        "run": run,
        "reason": "refresh",
        "uri": f"file:///{name}",
    }
    more = {"sha256": "a" * 64, "size": 1, "signature": ["a"], "registered": "2026-11-27T10:00:00Z"}
    return {**fields, **more, "slot": None, "kept": True, "manifest": manifest, **changes}


def requested(name: str, line: str, state: str, data_set: dict[str, Any] | None = None) -> dict[str, Any]:
    """A run as training answers it."""
    return {"run": name, "line": line, "state": state, "model": {}, "trigger": "initial", "data_set": data_set}


def asked(runs: list[dict[str, Any]], versions: list[dict[str, Any]]) -> Any:
    """What the services answer."""
    answers = {
        ("registry", "/v1/loops/churn"): {"revision": 2, "spec": {"task": "binary"}},
        ("training", "/v1/loops/churn/runs"): {"runs": runs},
        ("registry", "/v1/loops/churn/versions"): {"versions": versions},
    }
    return lambda service, path: answers[service, path]


def test_versions_belong_to_their_run_and_name_what_they_have_learned() -> None:
    data_set = {"loop": "churn", "start": 0, "end": 499, "revision": 1, "digest": DIGEST, "rows": 480}
    runs = [requested("r1", LINE, "trained"), requested("r2", BATCH, "trained", data_set)]
    versions = [version(f"{LINE}@29", "r1", 29), version(f"{LINE}@129", "r1", 129), version("forest-0@499", "r2", 499)]
    versions[2]["manifest"] |= {"data_set": data_set, "format": "onnx"}

    found = collect("churn", asked(runs, versions))

    online, batch = found.runs
    assert [one.name for one in online.inputs()] == ["churn@0..29#1", "churn@0..129#1"]
    assert [one.name for one in online.versions] == [f"{LINE}@29", f"{LINE}@129"]
    assert batch.inputs() == [DataSet("churn@0..499#1", "churn", 0, 499, 1, DIGEST, 480)]
    assert (batch.versions[0].learned, batch.versions[0].format) == (batch.data_set, "onnx")
    assert (found.task, found.revision) == ("binary", 2)


def test_a_run_that_training_has_forgotten_is_known_from_its_versions() -> None:
    found = collect("churn", asked([], [version(f"{LINE}@29", "old", 29)]))

    [run_of] = found.runs
    assert (run_of.name, run_of.line, run_of.state, run_of.trigger) == ("old", LINE, "trained", None)
    assert run_of.model == {"preset": "logistic"}


def test_a_submitted_model_that_names_no_data_set_has_none() -> None:
    given = version("net-0@99", "r1", 99)
    given["manifest"]["format"] = "onnx"

    found = collect("churn", asked([requested("r1", "net-0", "trained")], [given]))

    assert (found.runs[0].inputs(), found.runs[0].versions[0].learned) == ([], None)


@pytest.mark.app
def test_without_ml_metadata_the_command_says_how_to_get_it() -> None:
    out = run("lineage", "churn", "--mlmd", "sqlite:///metadata.db")

    assert out.exit_code == 2
    assert "no module ml_metadata" in out.stderr
    assert "mlmd/bin/pip install everloop ml-metadata" in out.stderr


@pytest.mark.app
@pytest.mark.parametrize("options", [["--follow"], ["--pipeline", "churn-staging"]])
def test_options_of_a_store_are_refused_without_one(options: list[str]) -> None:
    out = run("lineage", "churn", *options)

    assert out.exit_code == 2
    assert "--mlmd" in out.stderr
