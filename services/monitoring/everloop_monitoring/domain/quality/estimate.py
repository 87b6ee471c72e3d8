"""The performance that is estimated before labels come, and how wrong the estimates were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from everloop_metrics import class_name, metric_input, score_of
from everloop_metrics.estimation import (
    ESTIMATED,
    Calibration,
    ClassCurves,
    Expected,
    expect_binary,
    expect_class,
    expected_score,
)
from everloop_monitoring.domain.quality.judged import MAX_CLASSES, UNITS
from everloop_schemas.envelope import Scalar
from everloop_schemas.loop import LoopSpec

WINDOW = 500
"""Predictions that an estimate is for, and outcomes after which one is compared with what was right."""
MAX_ERRORS = 20
BEYOND = "\x00other"
"""The label of a class beyond those that are distinguished: nothing that was predicted."""


def estimated_metric(spec: LoopSpec) -> str | None:
    """The metric that is estimated: the loop's, or accuracy where it cannot be; None for a regression."""
    if spec.task == "regression":
        return None
    return spec.metric if spec.metric in ESTIMATED else "accuracy"


class Said(NamedTuple):
    """A prediction: the place of its class, and its probabilities in billionths, of two classes that of `true` alone,
    of many by place."""

    value: int
    chances: tuple[int, ...]


def said(task: str, classes: Sequence[str], value: Scalar, probabilities: Mapping[str, float] | None) -> Said | None:
    """What is kept of a prediction; None where it has no probability, or a class that is not known yet."""
    if not probabilities or task == "regression":
        return None
    if task == "binary":
        return Said(int(bool(value)), (_in_units(probabilities.get("true", 0.0)),))
    name = class_name(value)[:100]
    if name not in classes:
        return None
    return Said(classes.index(name), tuple(_in_units(probabilities.get(known, 0.0)) for known in classes))


def _in_units(chance: float) -> int:
    return round(min(1.0, max(0.0, chance)) * UNITS)


@dataclass(slots=True)
class Estimator:
    """The calibrations, the last predictions, and the outcomes since the calibrations were renewed.

    They are renewed every `WINDOW` labels. The outcomes that follow are estimated by them, and compared with their
    labels: `errors` are the last distances of estimate and result. Corrections do not reach them. Of two classes one
    calibration says all; of many each class has two, where it is predicted and where another one is.
    """

    calibrations: list[Calibration] = field(default_factory=list)
    curves: list[list[tuple[float, float]]] = field(default_factory=list)
    predictions: list[Said] = field(default_factory=list)
    outcomes: list[tuple[Said, int]] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    metric: str = ""
    of_many: bool = False

    def follow(self, metric: str | None, of_many: bool) -> None:
        """Errors of another metric are not this one's."""
        self.of_many = of_many
        if metric != self.metric:
            self.metric, self.errors = metric or "", []

    def add_prediction(self, one: Said | None) -> None:
        """Add a prediction whose label is not known yet."""
        if one is not None:
            self.predictions.append(one)
            if len(self.predictions) > WINDOW:
                del self.predictions[0]

    def add_outcome(self, one: Said | None, label: int, classes: Sequence[str]) -> None:
        """Add the label of a prediction, by the place of its class among `classes`."""
        if one is None or not self.metric:
            return
        while len(self.calibrations) < (2 * len(one.chances) if self.of_many else 1):
            self.calibrations.append(Calibration(self.of_many))
        for place, chance in enumerate(one.chances):
            calibration = self.calibrations[2 * place + (place != one.value) if self.of_many else 0]
            calibration.learn(chance / UNITS, label == (place if self.of_many else 1))
        self.outcomes.append((one, label))
        if len(self.outcomes) >= WINDOW:
            self._end_block(classes)

    def estimate(self, classes: Sequence[str]) -> float | None:
        """The metric that the last predictions are expected to have; None before the first calibration."""
        if not self.curves or not self.metric:
            return None
        return expected_score(self.metric, (self._expect(one, classes) for one in self.predictions))

    @property
    def error(self) -> float | None:
        """The mean distance of earlier estimates from what labels showed later; None before the first."""
        return sum(self.errors) / len(self.errors) if self.errors else None

    def _expect(self, one: Said, classes: Sequence[str]) -> Expected:
        chances = [chance / UNITS for chance in one.chances]
        if self.of_many:
            pairs = [ClassCurves(*pair) for pair in zip(self.curves[::2], self.curves[1::2], strict=False)]
            return expect_class(pairs, classes, chances, classes[one.value])
        return expect_binary(self.curves[0], chances[0], bool(one.value))

    def _end_block(self, classes: Sequence[str]) -> None:
        if self.curves:
            expected = [self._expect(one, classes) for one, _ in self.outcomes]
            inputs = (
                metric_input(self.metric, self._label(label, classes), one.value, one.probabilities)
                for one, (_, label) in zip(expected, self.outcomes, strict=True)
            )
            estimate, found = expected_score(self.metric, expected), score_of(self.metric, inputs)
            if estimate is not None and found is not None:
                self.errors = [*self.errors, abs(estimate - found)][-MAX_ERRORS:]
        self.outcomes, self.curves = [], [each.curve() for each in self.calibrations]

    def _label(self, place: int, classes: Sequence[str]) -> Scalar:
        if not self.of_many:
            return bool(place)
        return classes[place] if place < min(len(classes), MAX_CLASSES) else BEYOND
