"""Each metric equals scikit-learn's, on random data, also where labels were corrected in any order."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest

from everloop_metrics import MetricInput, MetricSums, metric_input, score_of
from everloop_schemas.envelope import Scalar
from everloop_schemas.loop import METRICS

Row = tuple[Scalar, Scalar, dict[str, float] | None]
CLASSES = ("a", "b", "c")


def rows_of(task: str, seed: int, n: int = 400) -> list[Row]:
    rng = Random(seed)
    rows: list[Row] = []
    for _ in range(n):
        if task == "regression":
            number = rng.choice((-1, 1)) * rng.uniform(1, 100)
            rows.append((number, number + rng.gauss(0, 20), None))
            continue
        names = ("true", "false") if task == "binary" else CLASSES
        weights = [rng.random() ** 3 + 0.01 for _ in names]
        chances = {name: w / sum(weights) for name, w in zip(names, weights, strict=True)}
        label, value = rng.choices(names, weights)[0], max(chances, key=chances.__getitem__)
        rows.append((label == "true", value == "true", chances) if task == "binary" else (label, value, chances))
    return rows


def chance_of_true(rows: list[Row]) -> list[float]:
    return [chances["true"] for _, _, chances in rows if chances]


def matrix(rows: list[Row]) -> list[list[float]]:
    names = sorted(rows[0][2] or {})
    return [[chances[name] for name in names] for _, _, chances in rows if chances]


def one_hot(rows: list[Row]) -> Any:
    names = sorted(rows[0][2] or {})
    return np.array([[str(label).lower() == name for name in names] for label, *_ in rows], dtype=float)


def calibration(rows: list[Row], hits: Any, chances: Any) -> float:
    from sklearn.calibration import calibration_curve  # type: ignore[import-untyped]

    observed, predicted = calibration_curve(hits, chances, n_bins=10)
    places = np.clip((np.array(chances) * 10).astype(int), 0, 9)
    sizes = [count for count in np.bincount(places, minlength=10) if count]
    return float(np.average(np.abs(observed - predicted), weights=sizes))


def theirs(name: str, *arguments: Any, **options: Any) -> float:
    from sklearn import metrics  # type: ignore[import-untyped]

    return float(getattr(metrics, name)(*arguments, **options))


def of_classes(name: str, **options: Any) -> Callable[[list[Row]], float]:
    return lambda rows: theirs(name, [y for y, *_ in rows], [v for _, v, _ in rows], **options)


def brier(rows: list[Row]) -> float:
    return float(((np.array(matrix(rows)) - one_hot(rows)) ** 2).sum(axis=1).mean() / 2)


def ece(rows: list[Row]) -> float:
    if isinstance(rows[0][0], bool):
        return calibration(rows, [y for y, *_ in rows], chance_of_true(rows))
    return calibration(rows, [y == v for y, v, _ in rows], [max(c.values()) for *_, c in rows if c])


BOTH: dict[str, Callable[[list[Row]], float]] = {
    "accuracy": of_classes("accuracy_score"),
    "balanced_accuracy": of_classes("balanced_accuracy_score"),
    "log_loss": lambda rows: theirs("log_loss", [str(y).lower() for y, *_ in rows], matrix(rows)),
    "brier": brier,
    "ece": ece,
}
THEIRS: dict[str, dict[str, Callable[[list[Row]], float]]] = {
    "binary": {
        **BOTH,
        "precision": of_classes("precision_score"),
        "recall": of_classes("recall_score"),
        "f1": of_classes("f1_score"),
        "f1_macro": of_classes("f1_score", average="macro"),
        "roc_auc": lambda rows: theirs("roc_auc_score", [y for y, *_ in rows], chance_of_true(rows)),
        "pr_auc": lambda rows: theirs("average_precision_score", [y for y, *_ in rows], chance_of_true(rows)),
    },
    "multiclass": {
        **BOTH,
        "precision": of_classes("precision_score", average="macro"),
        "recall": of_classes("recall_score", average="macro"),
        "f1": of_classes("f1_score", average="macro"),
    },
    "regression": {
        "mae": of_classes("mean_absolute_error"),
        "rmse": lambda rows: of_classes("mean_squared_error")(rows) ** 0.5,
        "r2": of_classes("r2_score"),
        "mape": of_classes("mean_absolute_percentage_error"),
        "pinball": of_classes("mean_pinball_loss"),
        "pinball_10": of_classes("mean_pinball_loss", alpha=0.1),
        "pinball_90": of_classes("mean_pinball_loss", alpha=0.9),
    },
}
NEAR = {"roc_auc": 0.003, "pr_auc": 0.003}
"""Odds are counted in steps of 5 %."""
ALL = [(task, metric) for task, named in METRICS.items() for metric in named]


@pytest.mark.frameworks
@pytest.mark.parametrize(("task", "metric"), ALL)
def test_a_metric_equals_scikit_learns(task: str, metric: str) -> None:
    for seed in range(3):
        rows = rows_of(task, seed)

        score = score_of(metric, [metric_input(metric, *row) for row in rows])

        assert score == pytest.approx(THEIRS[task][metric](rows), abs=NEAR.get(metric, 1e-9))


@pytest.mark.parametrize(("task", "metric"), ALL)
def test_corrections_in_any_order_leave_what_a_recount_gives(task: str, metric: str) -> None:
    rng, rows = Random(7), rows_of(task, 1)
    right = [metric_input(metric, *row) for row in rows]
    labels = [row[0] for row in rows_of(task, 2)]
    wrong = [metric_input(metric, label, *row[1:]) for label, row in zip(labels, rows, strict=True)]
    steps = [(one, other) for one, other in zip(wrong, right, strict=True)]
    sums = MetricSums()
    for one in wrong:
        sums.add(metric, one)

    for one, other in rng.sample(steps, len(steps)):
        sums.add(metric, one, -1)
        sums.add(metric, other)

    counted = MetricSums()
    for one in right:
        counted.add(metric, one)
    assert sums == counted


def test_labels_of_very_many_classes_have_bounded_sums_that_are_still_subtracted_exactly() -> None:
    rng, sums = Random(3), MetricSums()
    inputs = [MetricInput(f"{i}-{'x' * 500}", f"{rng.randrange(9_000)}-{'x' * 500}") for i in range(9_000)]
    before = [MetricInput("a", "a"), MetricInput("a", "b")]
    for one in before:
        sums.add("f1", one)

    for one in inputs:
        sums.add("f1", one)
    held, longest = len(sums.counts), max(map(len, sums.counts))
    for one in rng.sample(inputs, len(inputs)):
        sums.add("f1", one, -1)

    assert held <= 3_003
    assert longest < 120
    assert sums.score("f1") == score_of("f1", before)


@pytest.mark.parametrize("metric", ["mape", "pinball", "pinball_10", "pinball_90"])
def test_the_largest_and_smallest_numbers_give_something_finite(metric: str) -> None:
    extremes: list[Scalar] = [1.7976931348623157e308, -1.7976931348623157e308, 5e-324, 0.0, -0.0, 2**63, 10**400]

    scores = [score_of(metric, [MetricInput(y, v), MetricInput(1.0, 2.0)]) for y in extremes for v in extremes]

    assert all(score is not None and abs(score) < 1e300 for score in scores)


def test_what_is_undefined_is_none() -> None:
    never, always = [MetricInput(True, False)] * 9, [MetricInput(False, True)] * 9
    zero = [MetricInput(0.0, 1.0)] * 9

    assert score_of("precision", never) is None
    assert score_of("recall", always) is None
    assert score_of("pr_auc", [MetricInput(False, True, 0.9)] * 9) is None
    assert score_of("mape", zero) is None
    assert [score_of(metric, []) for _, metric in ALL] == [None] * len(ALL)
