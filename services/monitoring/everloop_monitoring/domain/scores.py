"""Errors, losses and the trivial baselines: what a prediction cost, and what no model at all would have said."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from everloop_schemas.envelope import Scalar
from everloop_shared.arithmetic import distance, exact, mean

ROLLING = 500
CLASSES, CLASS_CHARACTERS = 1_000, 100_000
"""The most classes counted, and their length together: beyond, a label is no class that comes again."""


def error(regression: bool, prediction: Scalar, label: Scalar) -> float:
    """The absolute error of a number, finite; 0 or 1 for a class."""
    return distance(prediction, label) if regression else float(prediction != label)


@dataclass(slots=True)
class Baselines:
    """No change (the label before) and majority (the class seen most, or the mean), from the labels so far.

    `classes` keeps the order of first appearance, so that a tie is always decided alike; `total` is an exact sum.
    """

    previous: Scalar | None = None
    previous_offset: int = -1
    classes: list[tuple[Scalar, int]] = field(default_factory=list)
    n: int = 0
    total: int = 0

    def no_change(self, guess: Scalar) -> Scalar:
        """The label before, `guess` where there is none."""
        return guess if self.previous is None else self.previous

    def majority(self, regression: bool, guess: Scalar) -> Scalar:
        """The mean of a regression's labels, else the class seen most; `guess` before any label."""
        if regression:
            return mean(self.total, self.n) if self.n else guess
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
            self.total += n * exact(label)
            return
        for i, (known, count) in enumerate(self.classes):
            if known == label:
                self.classes[i] = (known, count + n)
                return
        taken = sum(len(known) for known, _ in self.classes if isinstance(known, str))
        if n > 0 and len(self.classes) < CLASSES and taken < CLASS_CHARACTERS:
            self.classes.append((label, n))


class Errors(NamedTuple):
    """What was served, and the two baselines, on one outcome or as a mean over many."""

    served: float = 0.0
    no_change: float = 0.0
    majority: float = 0.0

    def scores(self, regression: bool) -> Errors:
        """Mean errors as they are told: as they are for a regression, else as accuracies."""
        return self if regression else Errors(*(1 - error for error in self))


class Sums(NamedTuple):
    """Errors summed exactly: what was counted in can be counted out again, in any order, whatever its size."""

    served: int = 0
    no_change: int = 0
    majority: int = 0

    def plus(self, errors: Errors, sign: int = 1) -> Sums:
        """With one more counted in, or with sign -1 out."""
        served, no_change, majority = errors
        return Sums(
            self.served + sign * exact(served),
            self.no_change + sign * exact(no_change),
            self.majority + sign * exact(majority),
        )

    def over(self, n: int, regression: bool) -> Errors:
        """Mean absolute errors over `n` outcomes, or accuracies; all 0 where n is 0."""
        return Errors(*(mean(total, n) for total in self)).scores(regression) if n else Errors()


@dataclass(slots=True)
class VersionTally:
    """What one version adds to its row: errors on all it predicted, and on what of it was served, as exact sums."""

    predicted: int = 0
    error: int = 0
    served: int = 0
    served_error: int = 0

    def add(self, error: float, served: bool, sign: int = 1) -> None:
        """Count one outcome in, or with sign -1 out."""
        term = sign * exact(error)
        self.predicted += sign
        self.error += term
        if served:
            self.served += sign
            self.served_error += term
