"""The mean loss of a model orders models as the metric of the spec does, and is fixed before the outcome is known."""

from __future__ import annotations

from random import Random

import pytest
from tests.builders.loops import loop_spec

from everloop_learning.class_costs import MAX_CLASSES, ClassCosts
from everloop_learning.losses import Losses
from everloop_metrics import metric_input, score_of
from everloop_schemas.envelope import Scalar
from everloop_schemas.loop import METRICS

COSTED = [("binary", m) for m in ("balanced_accuracy", "precision", "recall", "f1", "f1_macro")] + [
    ("multiclass", m) for m in ("balanced_accuracy", "precision", "recall", "f1")
]


def labels_of(task: str, rng: Random, n: int) -> list[Scalar]:
    if task == "binary":
        return [rng.random() < 0.1 for _ in range(n)]
    return [rng.choices("abc", (8, 1, 1))[0] for _ in range(n)]


def predicted(labels: list[Scalar], classes: list[Scalar], rng: Random, eager: float, right: float) -> list[Scalar]:
    """What a model says that is right so often, and `eager` to name a rare class where it is not."""
    rare = classes[1:]
    return [y if rng.random() < right else rng.choice(rare) if rng.random() < eager else classes[0] for y in labels]


@pytest.mark.parametrize(("task", "metric"), COSTED)
def test_of_two_models_the_better_one_by_the_metric_has_the_lower_mean_loss(task: str, metric: str) -> None:
    rng = Random(5)
    classes: list[Scalar] = [False, True] if task == "binary" else ["a", "b", "c"]
    labels, agreed, compared = labels_of(task, rng, 8_000), 0, 0
    served = predicted(labels, classes, rng, 0.3, 0.5)
    own = score_of(metric, [metric_input(metric, y, v, None) for y, v in zip(labels, served, strict=True)])
    for eager, right in ((0.0, 0.6), (0.1, 0.45), (0.8, 0.55), (0.3, 0.3), (0.05, 0.2), (0.9, 0.8)):
        said = predicted(labels, classes, rng, eager, right)
        losses, gap = Losses(loop_spec(task=task, metric=metric)), 0.0
        for i, y in enumerate(labels):
            if i >= 2_000:
                gap += losses.loss(y, served[i]) - losses.loss(y, said[i])
            losses.learn(y, served[i])
        score = score_of(metric, [metric_input(metric, y, v, None) for y, v in zip(labels, said, strict=True)])
        assert own is not None
        assert score is not None
        if abs(score - own) > 0.02:
            compared, agreed = compared + 1, agreed + ((score > own) == (gap > 0))

    of_first_order = (task, metric) == ("multiclass", "precision")  # it may err on a model that is far away
    assert compared >= 4
    assert agreed >= compared - of_first_order


def test_by_f1_a_model_that_never_finds_anything_loses_to_one_with_false_alarms() -> None:
    rng = Random(2)
    labels = [rng.random() < 0.02 for _ in range(4_000)]
    finds = [y if rng.random() < 0.7 else rng.random() < 0.02 for y in labels]
    by_accuracy, by_f1 = Losses(loop_spec()), Losses(loop_spec(metric="f1"))
    means = {"accuracy": [0.0, 0.0], "f1": [0.0, 0.0]}

    for y, found in zip(labels, finds, strict=True):
        for name, losses in (("accuracy", by_accuracy), ("f1", by_f1)):
            means[name][0] += losses.loss(y, False) / len(labels)
            means[name][1] += losses.loss(y, found or rng.random() < 0.02) / len(labels)
            losses.learn(y, False)

    assert means["accuracy"][0] < means["accuracy"][1]
    assert means["f1"][0] > means["f1"][1]


@pytest.mark.parametrize("task", list(METRICS))
def test_losses_lie_between_zero_and_one_whatever_comes(task: str) -> None:
    values: list[Scalar] = [0.0, -1e308, 1e308, 5e-324, 2**63] if task == "regression" else [True, False, "x" * 10**6]
    for metric in METRICS[task]:
        losses = Losses(loop_spec(task=task, metric=metric))
        for label in values:
            for value in values:
                assert 0.0 <= losses.loss(label, value, {"true": 0.5}) <= 1.0
                losses.learn(label, value)
                assert losses.loss(label, label) == 0.0


def test_the_classes_that_are_counted_are_limited() -> None:
    costs = ClassCosts()

    for i in range(1_000):
        costs.learn(f"{i} {'y' * 1_000}", f"{i + 1} {'y' * 1_000}")

    assert len(costs.classes) <= MAX_CLASSES + 1
    assert max(map(len, costs.classes)) <= 100
    assert 0.0 <= costs.cost("f1_macro", "new", "newer") <= 1.0


def test_errors_count_by_the_metric_of_a_regression() -> None:
    def loss(metric: str, label: float, value: float) -> float:
        losses = Losses(loop_spec(task="regression", metric=metric))
        losses.spread.width = 10.0
        return losses.loss(label, value)

    assert loss("mae", 100.0, 110.0) == loss("pinball", 100.0, 110.0) == 1 / 6
    assert loss("rmse", 100.0, 120.0) == 4 * loss("rmse", 100.0, 110.0) == 400 / 3_600
    assert loss("r2", 100.0, 200.0) == 1.0
    assert loss("pinball_90", 100.0, 90.0) == pytest.approx(9 * loss("pinball_90", 100.0, 110.0))
    assert loss("mape", 100.0, 200.0) == 1 / 6
    assert loss("mape", 0.0, 200.0) == 0.0


def test_squared_errors_are_judged_by_those_that_were_served_and_one_outlier_moves_them_little() -> None:
    losses = Losses(loop_spec(task="regression", metric="rmse"))
    for i in range(500):
        losses.learn(float(i % 100), float(i % 100) + 0.1)

    usual = losses.loss(50.0, 50.1)
    losses.learn(1e300, 0.0)

    assert usual == pytest.approx(1 / 36)
    assert losses.loss(50.0, 50.1) > usual / 2
