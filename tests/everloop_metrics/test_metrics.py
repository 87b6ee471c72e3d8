"""Each metric equals River's, can be subtracted to the last bit, and is None where it is undefined."""

from __future__ import annotations

import math
import random
import time
from typing import Any

import pytest
from river import metrics

from everloop_metrics import MetricInput, MetricSums, brier_loss, metric_input, score_of
from everloop_schemas.envelope import Scalar

HUGE = 1.7976931348623157e308


def stream(kind: str, n: int = 500, seed: int = 1) -> list[tuple[Scalar, Scalar, dict[str, float] | None]]:
    rng = random.Random(seed)
    rows: list[tuple[Scalar, Scalar, dict[str, float] | None]] = []
    for _ in range(n):
        if kind == "binary":
            p = rng.random()
            rows.append((rng.random() < p, rng.random() < 0.5, {"true": p, "false": 1 - p}))
        elif kind == "multiclass":
            rows.append((rng.choice("aabc"), rng.choice("aabcd"), None))
        else:
            y = rng.gauss(100, 10)
            rows.append((y, y + rng.gauss(0, 5), None))
    return rows


def ours(metric: str, rows: list[Any]) -> float | None:
    return score_of(metric, [metric_input(metric, *row) for row in rows])


RIVERS: list[tuple[str, str, Any, float]] = [
    ("binary", "accuracy", metrics.Accuracy, 1e-12),
    ("binary", "f1", metrics.F1, 1e-12),
    ("binary", "log_loss", metrics.LogLoss, 1e-9),
    ("multiclass", "accuracy", metrics.Accuracy, 1e-12),
    ("regression", "mae", metrics.MAE, 1e-9),
    ("regression", "rmse", metrics.RMSE, 1e-9),
    ("regression", "r2", metrics.R2, 1e-6),
]


@pytest.mark.parametrize(("kind", "metric", "theirs", "near"), RIVERS)
def test_a_metric_equals_rivers(kind: str, metric: str, theirs: Any, near: float) -> None:
    rows, judge = stream(kind), theirs()
    for label, value, probabilities in rows:
        if metric == "log_loss":
            assert probabilities is not None
            judge.update(label, {True: probabilities["true"], False: probabilities["false"]})
        else:
            judge.update(label, value)

    assert ours(metric, rows) == pytest.approx(judge.get(), abs=near)


def test_the_area_under_the_curve_is_that_of_all_pairs() -> None:
    rows = stream("binary")
    yes = [p["true"] for y, _, p in rows if y and p]
    no = [p["true"] for y, _, p in rows if not y and p]
    pairs = sum((a > b) + (a == b) / 2 for a in yes for b in no) / len(yes) / len(no)

    assert ours("roc_auc", rows) == pytest.approx(pairs, abs=0.002)


def test_small_probabilities_are_distinguished() -> None:
    rows = [(i % 100 == 0, False, {"true": 0.004 if i % 100 == 0 else 0.003, "false": 0.997}) for i in range(500)]

    assert ours("roc_auc", rows) == 1.0


def test_the_f1_of_many_classes_is_the_mean_over_those_that_occurred() -> None:
    rows = [("a", "a", None), ("a", "b", None), ("b", "b", None), ("b", "x", None)]

    assert ours("f1", rows) == pytest.approx((2 / 3 + 1 / 2) / 2)


@pytest.mark.parametrize(
    ("metric", "rows"),
    [
        ("f1", [(False, False, None)] * 500),
        ("f1", [(False, True, None)] * 500),
        ("roc_auc", [(True, True, {"true": 0.9, "false": 0.1})] * 500),
        ("roc_auc", [(False, True, None)] * 500),
        ("r2", [(5.0, 4.0, None)] * 500),
        *((m, []) for m in ("accuracy", "f1", "roc_auc", "log_loss", "mae", "rmse", "r2")),
    ],
)
def test_a_metric_is_none_where_it_is_undefined(metric: str, rows: list[Any]) -> None:
    assert ours(metric, rows) is None


def test_outcomes_are_subtracted_to_the_last_bit() -> None:
    for kind, metric in (("binary", "f1"), ("binary", "roc_auc"), ("binary", "log_loss"), ("regression", "r2")):
        rows, sums = stream(kind), MetricSums()
        for row in rows[:100]:
            sums.add(metric, metric_input(metric, *row))
        before = dict(sums.counts)
        extreme = [*rows[100:], *([(HUGE, -HUGE, None)] if kind == "regression" else [])]
        for sign in (1, -1):
            for row in extreme:
                sums.add(metric, metric_input(metric, *row), sign)

        assert sums.counts == before


@pytest.mark.parametrize("metric", ["mae", "rmse", "r2"])
def test_the_largest_doubles_give_something_finite(metric: str) -> None:
    rows: list[Any] = [(HUGE, -HUGE, None), (-HUGE, HUGE, None), (1.0, 2.0, None)]

    score = ours(metric, rows)

    assert score is not None
    assert math.isfinite(score)


def test_r2_does_not_lose_a_small_spread_around_a_large_mean() -> None:
    rows = [(1e9 + i % 2, 1e9 + 0.5, None) for i in range(500)]

    assert ours("r2", rows) == pytest.approx(0.0, abs=1e-6)


def test_a_prediction_without_probabilities_counts_as_certain() -> None:
    assert ours("log_loss", [(True, True, None)]) == pytest.approx(0, abs=1e-9)
    assert ours("log_loss", [(True, False, None)]) == pytest.approx(-math.log(1e-15))
    assert metric_input("roc_auc", False, True, None) == MetricInput(False, True, 1.0)


def test_the_brier_loss_is_within_its_bounds() -> None:
    assert brier_loss(True, {"true": 1.0, "false": 0.0}) == 0.0
    assert brier_loss(True, {"true": 0.0, "false": 1.0}) == 1.0
    assert brier_loss("x", {"true": 0.5, "false": 0.5}) == 0.75


@pytest.mark.parametrize("metric", ["f1", "roc_auc", "log_loss"])
def test_five_hundred_outcomes_are_scored_in_milliseconds(metric: str) -> None:
    rows = [metric_input(metric, *row) for row in stream("binary")]
    started = time.thread_time()
    for _ in range(10):
        score_of(metric, rows)

    assert (time.thread_time() - started) / 10 < 0.02
