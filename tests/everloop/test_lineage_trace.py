"""A prediction, a version, a run and a drift are traced both ways, and told as lines of a tree."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from everloop.errors import EverloopHTTPError
from everloop.lineage.trace import (
    NotTraced,
    find_prediction,
    lines_of,
    trace_drift,
    trace_prediction,
    trace_run,
    trace_version,
)

DRIFT, RUN, VERSION = "drift-199", "run-b-0", "b-0@400"
DECIDED = {"sequence": 7, "time": "2026-11-27T10:00:01+00:00", "decision": "model_promoted", "subject": VERSION}
ANSWERED_RUN: dict[str, Any] = {
    **{"run": RUN, "line": "b-0", "trigger": "drift", "reason": "drift", "causationid": DRIFT, "requested_by": None},
    **{"requested": "2026-11-27T09:00:00+00:00", "state": "trained", "data_sets": ["m@0..400#1"], "next": 3},
    "versions": [
        {
            **{"version": VERSION, "number": 3, "registered": "2026-11-27T10:00:00+00:00", "reason": "gate"},
            **{"slot": "champion", "data_set": {"name": "m@0..400#1", "rows": 398}},
        }
    ],
    "decisions": [{**DECIDED, "actor": "everloop/registry", "reason": "held", "causationid": None}],
    "approvals": [],
}
ENTRY = {"id": DRIFT, "kind": "drift", "time": "2026-11-27T08:00:00+00:00", "what": "drift: error 10% before"}
MADE = {"role": "champion", "predictions": 1_234, "first": "2026-11-27T10:01:00", "last": "2026-11-27T11:00:00"}
PREDICTION = {
    "id": "order-17",
    "time": "2026-11-27T10:30:00",
    "prediction": True,
    "version": VERSION,
    "role": "champion",
}


def answering() -> Callable[[str, str], Any]:
    """Services that answer by path, without its query."""
    answers: dict[tuple[str, str], Any] = {
        ("registry", "lineage"): {"runs": [ANSWERED_RUN]},
        ("monitoring", "drifts"): [ENTRY],
        ("monitoring", "timeline"): [],
        ("monitoring", "b-0%40400/predictions"): {"made": [MADE], "latest": [PREDICTION], "next": None},
        ("monitoring", "0/predictions"): {"made": [], "latest": [], "next": None},
        ("monitoring", "predictions"): [PREDICTION],
    }

    def ask(service: str, path: str) -> Any:
        name = path.partition("?")[0].removeprefix("/v1/loops/m/").removeprefix("versions/")
        if (service, name) not in answers:
            raise EverloopHTTPError(404, "Not found", "not here")
        return answers[service, name]

    return ask


def test_a_prediction_leads_to_its_version_run_data_set_decisions_and_drift() -> None:
    found = find_prediction("m", "order-17", answering())
    assert found is not None

    lines = list(lines_of(trace_prediction("m", found, answering())))

    assert [depth for depth, _ in lines[:3]] == [0, 1, 2]
    text = "\n".join(line for _, line in lines)
    for part in (
        "order-17",
        f"run {RUN}",
        f"drift {DRIFT}",
        VERSION,
        "m@0..400#1, 398 rows",
        "decision 7",
        "--before 3",
    ):
        assert part in text


def test_a_version_leads_to_its_predictions_by_role() -> None:
    trace = trace_version("m", VERSION, answering())

    lines = [line for _, line in lines_of(trace)]

    assert f"1,234 predictions by {VERSION} as champion, from 2026-11-27T10:01:00 to 2026-11-27T11:00:00" in lines
    assert any(line.startswith("prediction order-17") for line in lines)


def test_the_baseline_has_no_run_and_says_so() -> None:
    lines = [line for _, line in lines_of(trace_version("m", "0", answering()))]

    assert lines[0].startswith("version 0, the baseline")


def test_a_drift_leads_to_the_runs_and_versions_that_it_caused() -> None:
    found, quiet = trace_drift("m", DRIFT, answering()), answering()

    no_run = trace_drift("m", DRIFT, lambda s, p: {"runs": []} if s == "registry" else quiet(s, p))

    assert found.runs[0]["versions"][0]["version"] == VERSION
    assert [line for _, line in lines_of(no_run)][-1] == "no run came of it"
    with pytest.raises(NotTraced, match="no drift 'other'"):
        trace_drift("m", "other", lambda s, p: {"runs": []} if s == "registry" else quiet(s, p))


def test_a_trace_is_json_and_a_run_is_found_by_its_name() -> None:
    trace = trace_run("m", RUN, answering())

    assert json.loads(json.dumps(trace.runs))[0]["run"] == RUN
    assert trace.drifts == {DRIFT: ENTRY}
