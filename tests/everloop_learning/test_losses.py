"""Losses are comparable between models and bounded."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
from tests.builders.loops import loop_spec

from everloop_learning.losses import Losses, prediction_error
from everloop_metrics import MetricInput, metric_input, score_of
from everloop_schemas.loop import LoopSpec


def spec(task: str = "binary", **parts: Any) -> LoopSpec:
    return loop_spec(task=task, **parts)


def test_losses_lie_between_zero_and_one() -> None:
    by_class, by_brier, by_number = Losses(spec()), Losses(spec(metric="brier")), Losses(spec("regression"))
    for label in (0.0, 10.0, 20.0):
        by_number.learn(label, 0.0)

    assert (by_class.loss(True, True), by_class.loss(True, False)) == (0.0, 1.0)
    assert by_brier.loss(True, True, {"true": 0.8, "false": 0.2}) == pytest.approx(0.04)
    assert by_brier.loss(True, False, {"true": 0.0, "false": 1.0}) == 1.0
    assert by_number.loss(10.0, 10.0) == 0.0
    assert 0 < by_number.loss(10.0, 12.0) < by_number.loss(10.0, 1e12) <= 1.0


def test_the_error_of_a_number_is_its_distance_and_that_of_a_class_is_zero_or_one() -> None:
    assert prediction_error(True, 3.0, 5) == 2.0
    assert (prediction_error(False, "a", "a"), prediction_error(False, "a", "b")) == (0.0, 1.0)


def test_by_log_loss_the_loss_is_the_surprise_up_to_a_probability_of_one_in_a_thousand() -> None:
    losses = Losses(spec(metric="log_loss"))

    said = [losses.loss(True, True, {"true": p, "false": 1 - p}) for p in (1.0, 0.5, 0.001, 0.0, 1e-12, 1.5)]

    assert said == pytest.approx([0.0, math.log(2) / math.log(1000), 1.0, 1.0, 1.0, 0.0])
    assert math.isnan(losses.loss(True, True, {"true": math.nan}))
    assert losses.loss(True, False) == 1.0


@pytest.mark.parametrize("metric", ["mae", "mape", "pinball_90", "rmse"])
def test_errors_of_a_number_count_in_full_up_to_six_times_the_usual_one_that_was_served(metric: str) -> None:
    losses = Losses(spec("regression", metric=metric))
    for i in range(1_500):
        losses.learn(100.0, 110.0 if i % 2 else 90.0)
    served = (losses.loss(100.0, 110.0) + losses.loss(100.0, 90.0)) / 2

    power = 2 if metric == "rmse" else 1
    assert served == pytest.approx(1 / 6**power)
    assert losses.loss(100.0, 120.0) == pytest.approx(2**power * losses.loss(100.0, 110.0))
    assert losses.loss(100.0, 1e300) == 1.0


@pytest.mark.parametrize("metric", ["mae", "rmse", "pinball", "mape"])
def test_the_mean_loss_orders_models_as_the_metric_of_numbers_does(metric: str) -> None:
    rng, losses, named = Random(3), Losses(spec("regression", metric=metric)), ("steady", "seldom far away", "near")
    total, inputs = dict.fromkeys(named, 0.0), {name: list[MetricInput]() for name in named}
    for i in range(4_000):
        label = rng.uniform(50, 150)
        errors = rng.gauss(0, 6), rng.gauss(0, 2) if rng.random() > 0.1 else rng.choice((-15, 15)), rng.gauss(0, 3)
        for name, error in zip(named, errors, strict=True):
            total[name] += losses.loss(label, label + error) if i >= 100 else 0.0
            inputs[name].append(metric_input(metric, label, label + error, None))
        losses.learn(label, label + errors[0])

    scores = {name: score_of(metric, inputs[name]) or 0.0 for name in named}

    assert sorted(named, key=total.__getitem__) == sorted(named, key=scores.__getitem__)
