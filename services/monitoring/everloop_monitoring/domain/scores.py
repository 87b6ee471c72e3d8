"""Errors, losses and the trivial baselines: what a prediction cost, and what no model at all would have said."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from everloop_schemas.envelope import Scalar
from everloop_schemas.loop import LoopSpec

ROLLING = 500


def error(regression: bool, prediction: Scalar, label: Scalar) -> float:
    """The absolute error of a number; 0 or 1 for a class."""
    return abs(float(prediction) - float(label)) if regression else float(prediction != label)


def first_guess(spec: LoopSpec) -> Scalar:
    """What is said before any label is known, as by version 0: false, the first class, or 0."""
    if spec.task == "regression":
        return 0.0
    if spec.label.classes:
        return spec.label.classes[0]
    defaults: dict[str, Scalar] = {"boolean": False, "integer": 0}
    return defaults.get(spec.label_type, "")


@dataclass(slots=True)
class Baselines:
    """No change (the label before) and majority (the class seen most, or the mean), from the labels so far.

    `classes` keeps the order of first appearance, so that a tie is always decided alike.
    """

    previous: Scalar | None = None
    previous_offset: int = -1
    classes: list[tuple[Scalar, int]] = field(default_factory=list)
    n: int = 0
    total: float = 0.0

    def no_change(self, guess: Scalar) -> Scalar:
        """The label before, `guess` where there is none."""
        return guess if self.previous is None else self.previous

    def majority(self, regression: bool, guess: Scalar) -> Scalar:
        """The mean of a regression's labels, else the class seen most; `guess` before any label."""
        if regression:
            return self.total / self.n if self.n else guess
        return max(self.classes, key=lambda c: c[1])[0] if self.n else guess

    def learn(self, regression: bool, label: Scalar, offset: int) -> None:
        """A label is known now."""
        self.previous, self.previous_offset = label, offset
        self._count(regression, label, 1)

    def correct(self, regression: bool, old: Scalar | None, new: Scalar | None, offset: int) -> None:
        """The label at `offset` was `old` and is `new`; later baselines know it, earlier ones stay as said."""
        if old is not None:
            self._count(regression, old, -1)
        if new is not None:
            self._count(regression, new, 1)
            if offset >= self.previous_offset:
                self.previous, self.previous_offset = new, offset

    def _count(self, regression: bool, label: Scalar, n: int) -> None:
        self.n += n
        if regression:
            self.total += n * float(label)
            return
        for i, (known, count) in enumerate(self.classes):
            if known == label:
                self.classes[i] = (known, count + n)
                return
        self.classes.append((label, n))


class Errors(NamedTuple):
    """What was served, and the two baselines, on one outcome or summed over many."""

    served: float = 0.0
    no_change: float = 0.0
    majority: float = 0.0

    def plus(self, other: Errors, sign: int = 1) -> Errors:
        """The sum, or with sign -1 the difference."""
        return Errors(
            self.served + sign * other.served,
            self.no_change + sign * other.no_change,
            self.majority + sign * other.majority,
        )

    def over(self, n: int, regression: bool) -> Errors:
        """Mean absolute errors over `n` outcomes, or accuracies; all 0 where n is 0."""
        if not n:
            return Errors()
        if regression:
            return Errors(self.served / n, self.no_change / n, self.majority / n)
        return Errors(1 - self.served / n, 1 - self.no_change / n, 1 - self.majority / n)


@dataclass(slots=True)
class VersionTally:
    """What one version adds to its row: errors on all it predicted, and on what of it was served."""

    predicted: int = 0
    error: float = 0.0
    served: int = 0
    served_error: float = 0.0

    def add(self, error: float, served: bool, sign: int = 1) -> None:
        """Count one outcome in, or with sign -1 out."""
        self.predicted += sign
        self.error += sign * error
        if served:
            self.served += sign
            self.served_error += sign * error
