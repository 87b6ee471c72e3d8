"""The baseline predicts from the statistics of labels, whoever counts them."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from tests.builders.loops import loop_spec

from everloop_learning.baseline import Baseline, RunningLabels, majority_or_mean
from everloop_schemas.loop import LoopSpec


def spec(task: str = "binary", **parts: Any) -> LoopSpec:
    return loop_spec(task=task, **parts)


def test_the_baseline_is_the_running_majority_and_starts_with_the_default() -> None:
    labels = RunningLabels(is_regression=False)
    baseline = Baseline(spec("multiclass", label={"classes": ["cat", "dog"]}), labels)
    before = baseline.predict().value
    for label in ("dog", "dog", "cat"):
        labels.add(label)

    restored = pickle.loads(pickle.dumps(baseline))

    assert before == "cat"
    assert restored.predict() == baseline.predict() == ("dog", {"dog": 2 / 3, "cat": 1 / 3})


def test_the_baseline_of_numbers_is_their_running_mean() -> None:
    labels = RunningLabels(is_regression=True)
    baseline = Baseline(spec("regression"), labels)

    for label in (1.0, 2.0, 6.0):
        labels.add(label)

    assert baseline.predict().value == pytest.approx(3.0)


def test_of_equally_frequent_classes_the_first_wins() -> None:
    labels = RunningLabels(is_regression=False)
    for label in ("b", "a", "a", "b"):
        labels.add(label)

    assert majority_or_mean(labels, is_regression=False, default="c") == "b"


def test_labels_that_are_counted_in_no_class_leave_the_default() -> None:
    labels = RunningLabels(is_regression=False)
    labels.count = 3

    assert Baseline(spec("multiclass"), labels).predict() == (spec("multiclass").initial_prediction, None)
