"""Arithmetic that stays finite for any finite numbers, and exact sums from which terms can be subtracted again."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

LARGEST = 1e150
"""Larger numbers count as this: so differences, squares and sums stay finite in a double."""
UNITS = 2**200
"""Exact sums are integers in units of 1/UNITS: no term is rounded away, and the order does not matter."""
_UNITS = float(UNITS)
FIRST = 30
FARTHEST = 20.0


def bounded(value: object) -> float:
    """The number as a float within ±LARGEST, NaN as LARGEST; integers may have any size. TypeError for text."""
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r:.80} is not a number")
    return float(max(-LARGEST, min(LARGEST, value)))


def distance(a: object, b: object) -> float:
    """|a - b|, at most LARGEST."""
    if type(a) is float and type(b) is float and (far := abs(a - b)) <= LARGEST:
        return far
    return min(LARGEST, abs(bounded(a) - bounded(b)))


def exact(value: object) -> int:
    """The number as a term of an exact sum, to be added and later subtracted again."""
    if type(value) is not float or not -LARGEST <= value <= LARGEST:
        value = bounded(value)
    if value == 0.0 or value == 1.0:  # the errors of classes
        return UNITS if value else 0
    return int(value * _UNITS)


def mean(total: int, n: int = 1) -> float:
    """The value of an exact sum divided by `n`."""
    return total / (n * UNITS)


@dataclass(slots=True)
class Spread:
    """The usual distance of numbers from their centre, robust against single outliers.

    Running means: `centre` of the numbers, `width` of their distances from it. Of the first `FIRST` the median and
    the mean distance without the largest tenth are taken. After that the distance of a number counts as at most
    `FARTHEST` widths (where all were equal so far: at most the distance of the centre from 0, or 1).
    """

    count: int = 0
    centre: float = 0.0
    width: float = 0.0
    first: list[float] = field(default_factory=list)

    def loss(self, error: float) -> float:
        """An error of this size as a loss in [0, 1]: one half where it is as large as `width`."""
        return error / (error + self.width) if error else 0.0

    def add(self, value: object) -> None:
        """Add one number."""
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
