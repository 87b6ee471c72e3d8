"""Errors of predictions, and of the trivial baselines that need no model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, NamedTuple, TypeVar

from pydantic import BeforeValidator, PlainSerializer

from everloop_learning.baseline import majority_or_mean
from everloop_learning.version import Version
from everloop_schemas.envelope import Scalar
from everloop_shared.arithmetic import exact, mean

ROLLING_OUTCOMES = 500
"""The number of latest outcomes over which rolling scores are means."""
MAX_CLASSES, MAX_CLASS_CHARACTERS = 1_000, 100_000
"""The most classes counted for the majority, and the sum of their lengths; further classes are not counted."""

T = TypeVar("T")


def append_recent(recent: list[T], newest: T) -> None:
    """Append to a list of the last `ROLLING_OUTCOMES`."""
    recent.append(newest)
    if len(recent) > ROLLING_OUTCOMES:
        del recent[0]


ClassCounts = Annotated[
    dict[Scalar, int], BeforeValidator(dict), PlainSerializer(lambda counts: [list(pair) for pair in counts.items()])
]
"""Labels by class; pairs in JSON, where a key would be text."""


@dataclass(slots=True)
class Baselines:
    """No change (the previous label) and majority (the most frequent class, or the mean), from the labels so far.

    `classes` keeps the order of first appearance, so that a tie always has the same winner; `total` is an exact sum.
    """

    previous: Scalar | None = None
    previous_offset: int = -1
    classes: ClassCounts = field(default_factory=dict)
    n: int = 0
    total: int = 0

    @property
    def count(self) -> int:
        """How many labels there are, as `LabelStatistics` has it."""
        return self.n

    @property
    def mean(self) -> float:
        """The mean of a regression's labels, 0 before any."""
        return mean(self.total, self.n) if self.n else 0.0

    def no_change(self, guess: Scalar) -> Scalar:
        """The previous label, `guess` where there is none."""
        return guess if self.previous is None else self.previous

    def majority(self, is_regression: bool, guess: Scalar) -> Scalar:
        """What version 0 predicts from these labels; `guess` before any label."""
        return majority_or_mean(self, is_regression, guess)

    def learn(self, is_regression: bool, label: Scalar, offset: int) -> None:
        """Add the first label of the outcome at `offset`."""
        self.previous, self.previous_offset = label, offset
        self._count(is_regression, label, 1)

    def correct(self, is_regression: bool, old: Scalar | None, new: Scalar | None, offset: int) -> None:
        """Replace label `old` of the outcome at `offset` by `new`; baseline predictions already made stay."""
        if old is not None:
            self._count(is_regression, old, -1)
        if new is not None:
            self._count(is_regression, new, 1)
            if offset >= self.previous_offset:
                self.previous, self.previous_offset = new, offset

    def _count(self, is_regression: bool, label: Scalar, n: int) -> None:
        self.n += n
        if is_regression:
            self.total += n * exact(label)
            return
        if label in self.classes:
            self.classes[label] += n
            return
        characters = sum(len(known) for known in self.classes if isinstance(known, str))
        if n > 0 and len(self.classes) < MAX_CLASSES and characters < MAX_CLASS_CHARACTERS:
            self.classes[label] = n


class ComparedErrors(NamedTuple):
    """The errors of the served prediction and of the two baselines, on one outcome or as means over many."""

    served: float = 0.0
    no_change: float = 0.0
    majority: float = 0.0

    def as_scores(self, is_regression: bool) -> ComparedErrors:
        """Mean absolute errors of a regression unchanged, other mean errors as accuracies."""
        return self if is_regression else ComparedErrors(*(1 - error for error in self))


class ErrorSums(NamedTuple):
    """Exact sums of errors, so that a corrected outcome can be subtracted again in any order, whatever its size."""

    served: int = 0
    no_change: int = 0
    majority: int = 0

    def plus(self, errors: ComparedErrors, sign: int = 1) -> ErrorSums:
        """The sums with one outcome added, or with sign -1 subtracted."""
        served, no_change, majority = errors
        return ErrorSums(
            self.served + sign * exact(served),
            self.no_change + sign * exact(no_change),
            self.majority + sign * exact(majority),
        )

    def scores_over(self, n: int, is_regression: bool) -> ComparedErrors:
        """Mean absolute errors over `n` outcomes, or accuracies; all 0 where n is 0."""
        if not n:
            return ComparedErrors()
        return ComparedErrors(*(mean(total, n) for total in self)).as_scores(is_regression)


@dataclass(slots=True)
class LineTally:
    """What a batch adds to a line's row: exact sums of the errors of its predictions, and of the served ones.

    `version` is the latest version of the line that predicted.
    """

    version: str
    predicted: int = 0
    error: int = 0
    served: int = 0
    served_error: int = 0

    def add(self, version: str, error: float, was_served: bool, sign: int = 1) -> None:
        """Add one outcome, or with sign -1 subtract it."""
        if version != self.version:
            self.version = later_version(self.version, version)
        term = sign * exact(error)
        self.predicted += sign
        self.error += term
        if was_served:
            self.served += sign
            self.served_error += term


def later_version(a: str, b: str) -> str:
    """Of two versions of a line the one at the later offset."""
    return max(a, b, key=lambda version: Version.parse(version).offset)
