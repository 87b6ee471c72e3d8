"""Quality is estimated before labels come, and the estimate says how wrong earlier ones were."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from msgspec.structs import replace
from tests.builders.events import prediction_made
from tests.builders.loops import NOW
from tests.monitoring.quality_log import SeenLog, quality_log, watched_spec

from everloop_schemas.serving import PredictionMade


def predicted(data: Any) -> PredictionMade:
    event = prediction_made(data.prediction_id)
    return replace(event, data=replace(event.data, prediction=data.prediction, probabilities=data.probabilities))


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        ("binary", "f1"),
        ("binary", "roc_auc"),
        ("multiclass", "f1"),
        ("multiclass", "balanced_accuracy"),
        ("multiclass", "log_loss"),
        ("multiclass", "ece"),
    ],
)
def test_the_estimate_for_predictions_without_labels_comes_true(task: str, metric: str) -> None:
    seen = SeenLog(watched_spec(task, metric=metric)).add(*quality_log(task, 1_600))
    later = quality_log(task, 500, seed=9)

    for data in later:
        seen.watch.add_prediction(predicted(data), NOW)
    estimated = seen.quality()["estimated"]

    named = "accuracy" if metric == "ece" else metric  # nothing is expected of calibration
    shown = SeenLog(watched_spec(task)).add(*later).group("served", "served")["whole"][named]
    assert (estimated["metric"], estimated["predictions"], estimated["outcomes"]) == (named, 500, 1_000)
    assert estimated["value"] == pytest.approx(shown, abs=0.06)
    assert 0 < estimated["error"] < 0.06


def test_the_error_tells_where_the_concept_has_changed_and_the_estimate_does_not() -> None:
    rng, log = Random(1), quality_log("binary", 1_000)
    changed = [replace(o, label=rng.random() < 0.5) for o in quality_log("binary", 500, seed=2)]

    before = SeenLog(watched_spec()).add(*log, *quality_log("binary", 500, seed=2)).watch.estimator.errors[-1]
    after = SeenLog(watched_spec()).add(*log, *changed).watch.estimator.errors[-1]

    assert before < 0.06
    assert after > before + 0.1


def test_nothing_is_estimated_of_numbers_of_predictions_without_probabilities_or_before_five_hundred_labels() -> None:
    regression = SeenLog(watched_spec("regression")).add(*quality_log("regression", 1_100))
    silent = SeenLog(watched_spec()).add(*(replace(o, probabilities=None) for o in quality_log("binary", 1_100)))
    early = SeenLog(watched_spec()).add(*quality_log("binary", 499))
    for seen in (regression, silent, early):
        seen.watch.add_prediction(predicted(quality_log("binary", 1)[0]), NOW)

    assert [seen.quality()["estimated"] for seen in (regression, silent, early)] == [None, None, None]


def test_a_model_of_many_classes_that_always_says_the_same_is_estimated_too() -> None:
    constant = [
        replace(one, prediction="c", probabilities={"a": 0.3, "b": 0.3, "c": 0.4})
        for one in quality_log("multiclass", 1_600)
    ]
    seen = SeenLog(watched_spec("multiclass")).add(*constant)

    seen.watch.add_prediction(predicted(constant[0]), NOW)

    shown = seen.group("served", "served")["whole"]["accuracy"]
    assert seen.quality()["estimated"]["value"] == pytest.approx(shown, abs=0.05)
