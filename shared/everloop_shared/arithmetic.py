"""Arithmetic that stays finite whatever finite numbers come in, and sums that can be taken back to the last bit."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

LARGEST = 1e150
"""Numbers count as no larger than this: their differences, squares and sums are then finite in a double."""
UNITS = 2**200
"""Exact sums are whole numbers of 1/UNITS: no term is absorbed by a larger one, and no order matters."""
_UNITS = float(UNITS)
FIRST = 30
FARTHEST = 20.0


def bounded(value: object) -> float:
    """The number as a float within ±LARGEST, NaN as LARGEST; whole numbers may have any size. TypeError for text."""
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r:.80} is not a number")
    return float(max(-LARGEST, min(LARGEST, value)))


def distance(a: object, b: object) -> float:
    """|a - b|, at most LARGEST."""
    if type(a) is float and type(b) is float and (far := abs(a - b)) <= LARGEST:
        return far
    return min(LARGEST, abs(bounded(a) - bounded(b)))


def exact(value: object) -> int:
    """The number as a term of an exact sum: add it to count it in, subtract it to count it out again."""
    if type(value) is not float or not -LARGEST <= value <= LARGEST:
        value = bounded(value)
    return int(value * _UNITS)


def mean(total: int, n: int = 1) -> float:
    """What an exact sum comes to, shared among `n`."""
    return total / (n * UNITS)


@dataclass(slots=True)
class Spread:
    """How far numbers usually lie from their centre, so that one among thousands says next to nothing.

    Running means: `centre` of the numbers, `width` of their distances from it. Of the first `FIRST` the median and
    the mean distance without the largest tenth are taken; after that a number counts as no farther away than
    `FARTHEST` widths (where all were alike so far: than the centre is from 0, or 1).
    """

    count: int = 0
    centre: float = 0.0
    width: float = 0.0
    first: list[float] = field(default_factory=list)

    def loss(self, error: float) -> float:
        """An error of this size as a loss in [0, 1]: one half where it is as large as `width`."""
        return error / (error + self.width) if error else 0.0

    def add(self, value: object) -> None:
        """Take in one number."""
        self.count += 1
        away = bounded(value) - self.centre
        if self.count > FIRST:
            limit = FARTHEST * self.width or max(1.0, abs(self.centre))
            away = max(-limit, min(limit, away))
        self.centre += away / self.count
        if self.count > 1:
            self.width += (abs(away) - self.width) / self.count
        if self.count <= FIRST:
            self.first.append(bounded(value))
            if self.count == FIRST:
                self._settle()

    def _settle(self) -> None:
        self.centre = median(self.first)
        near = sorted(abs(value - self.centre) for value in self.first)[: FIRST * 9 // 10]
        self.width, self.first = sum(near) / len(near), []
