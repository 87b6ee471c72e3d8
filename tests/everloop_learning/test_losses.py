"""Losses are comparable between models and bounded."""

from __future__ import annotations

from typing import Any

import pytest
from tests.builders.loops import loop_spec

from everloop_learning.losses import Losses, prediction_error
from everloop_schemas.loop import LoopSpec


def spec(task: str = "binary", **parts: Any) -> LoopSpec:
    return loop_spec(task=task, **parts)


def test_losses_lie_between_zero_and_one() -> None:
    by_class, by_brier, by_number = Losses(spec()), Losses(spec(metric="log_loss")), Losses(spec("regression"))
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
