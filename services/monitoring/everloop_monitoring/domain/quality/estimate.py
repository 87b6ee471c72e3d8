"""The performance that is estimated before labels come, and how wrong the estimates were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from everloop_metrics import class_name, metric_input, score_of
from everloop_metrics.estimation import ESTIMATED, BinaryPrediction, Calibration, expected_score
from everloop_monitoring.domain.quality.judged import UNITS
from everloop_schemas.envelope import Scalar
from everloop_schemas.loop import LoopSpec

WINDOW = 500
"""Predictions that an estimate is for, and outcomes after which one is compared with what was right."""
MAX_ERRORS = 20


def estimated_metric(spec: LoopSpec) -> str | None:
    """The metric that is estimated: the loop's, or accuracy where it cannot be; None for a regression."""
    if spec.task == "regression":
        return None
    return spec.metric if spec.task == "binary" and spec.metric in ESTIMATED else "accuracy"


def binary_prediction(task: str, value: Scalar, probabilities: Mapping[str, float] | None) -> tuple[int, bool] | None:
    """The probability of `true` in billionths, and whether it was predicted; None where there is no probability.

    Of many classes, `true` is that the prediction is right.
    """
    if not probabilities or task == "regression":
        return None
    is_binary = task == "binary"
    chance = min(1.0, max(0.0, probabilities.get("true" if is_binary else class_name(value), 0.0)))
    return round(chance * UNITS), bool(value) if is_binary else True


@dataclass(slots=True)
class Estimator:
    """The calibration, the last predictions, and the outcomes since the calibration was renewed.

    It is renewed every `WINDOW` labels. The outcomes that follow are estimated by it, and compared with their labels:
    `errors` are the last distances of estimate and result. Corrections do not reach it.
    """

    calibration: Calibration = field(default_factory=Calibration)
    curve: list[tuple[float, float]] = field(default_factory=list)
    latest: list[tuple[int, bool]] = field(default_factory=list)
    block: list[tuple[int, bool, bool]] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    metric: str = ""

    def follow(self, metric: str | None) -> None:
        """Errors of another metric are not this one's."""
        if metric != self.metric:
            self.metric, self.errors = metric or "", []

    def add_prediction(self, said: tuple[int, bool] | None) -> None:
        """Add a prediction whose label is not known yet."""
        if said is not None:
            self.latest.append(said)
            if len(self.latest) > WINDOW:
                del self.latest[0]

    def add_outcome(self, said: tuple[int, bool] | None, label: bool) -> None:
        """Add the label of a prediction."""
        if said is None or not self.metric:
            return
        self.calibration.learn(said[0] / UNITS, label)
        self.block.append((*said, label))
        if len(self.block) >= WINDOW:
            self._end_block()

    def estimate(self) -> float | None:
        """The metric that the last predictions are expected to have; None before the first calibration."""
        if not self.curve or not self.metric:
            return None
        return expected_score(
            self.metric, self.curve, (BinaryPrediction(chance / UNITS, value) for chance, value in self.latest)
        )

    @property
    def error(self) -> float | None:
        """The mean distance of earlier estimates from what labels showed later; None before the first."""
        return sum(self.errors) / len(self.errors) if self.errors else None

    def _end_block(self) -> None:
        said = [(BinaryPrediction(chance / UNITS, value), label) for chance, value, label in self.block]
        expected = expected_score(self.metric, self.curve, (one for one, _ in said)) if self.curve else None
        inputs = (
            metric_input(self.metric, label, one.value, {"true": one.chance, "false": 1 - one.chance})
            for one, label in said
        )
        found = score_of(self.metric, inputs) if expected is not None else None
        if expected is not None and found is not None:
            self.errors = [*self.errors, abs(expected - found)][-MAX_ERRORS:]
        self.block, self.curve = [], self.calibration.curve()
