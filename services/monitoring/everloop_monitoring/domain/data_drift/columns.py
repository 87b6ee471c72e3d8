"""One feature, prediction or label as counts in fixed bins: a bounded sketch of its values, whatever they are."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf, nextafter
from sys import float_info
from typing import Literal

from everloop_metrics import class_name
from everloop_schemas.envelope import Scalar

ColumnKind = Literal["feature", "prediction", "label"]
MAX_CATEGORIES = 30
"""Of a text or a boolean that have a bin of their own; all others share one."""
MAX_CATEGORY_CHARACTERS = 100
MAX_DISTINCT = 12
"""A number with at most so many different values has a bin for each of them."""
QUANTILE_BINS = 10
MISSING, OTHER, FIRST_BIN = 0, 1, 2
"""Bins of every column: no value; a value of another type or an unknown category; and from the third on the values."""
Value = float | str | None
"""As it is kept until the bins are known: numbers as they are, text and booleans as the names of categories."""


@dataclass(slots=True)
class Column:
    """A column of values, found in a record by its `key`.

    `first` are the values from which the bins are made; after that each value is one more in `block`. A number's bins
    lie between `edges`, each with its upper end: the quantiles of the first values, below the lowest and above the
    highest. A category's bin is in `places`. While it `is_open`, the range of a number grows with its values, so that
    the outer bins are empty. `last` is the latest value, and `run` how often it came in a row. In the reference it came
    at most `longest` times in a row, and `repeats` values were equal to the one before.
    """

    name: str
    kind: ColumnKind = "feature"
    key: str = ""
    is_category: bool = False
    first: list[Value] | None = field(default_factory=list)
    edges: list[float] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)
    block: list[int] = field(default_factory=list)
    is_open: bool = True
    last: Scalar | None = None
    run: int = 0
    longest: int = 0
    repeats: int = 0

    @property
    def is_number(self) -> bool:
        """Whether the values are numbers, once the bins are known."""
        return bool(self.edges)

    def add(self, value: Scalar | None) -> int | None:
        """Add one value, None for a missing one; its bin, None before the bins are known."""
        if value == self.last:
            self.run += 1
            if self.is_open:
                self._note_repeat()
        else:
            self.last, self.run = (value[:MAX_CATEGORY_CHARACTERS] if type(value) is str else value), 1
        if self.first is not None:
            self.first.append(self._kept(value))
            return None
        bin = self._bin(value)
        self.block[bin] += 1
        return bin

    def _note_repeat(self) -> None:
        self.repeats += 1
        self.longest = max(self.longest, self.run)

    def _bin(self, value: Scalar | None) -> int:
        if value is None:
            return MISSING
        if not self.edges:
            return self.places.get(_category(value), OTHER)
        if type(value) is float or type(value) is int:
            if self.is_open:
                self._widen(value)
            return FIRST_BIN + bisect_left(self.edges, value)
        return OTHER

    def _widen(self, value: float) -> None:
        if value > self.edges[-1]:
            self.edges[-1] = value
        elif value <= self.edges[0]:
            self.edges[0] = _just_below(value)

    def _kept(self, value: Scalar | None) -> Value:
        if value is None or (not self.is_category and (type(value) is float or type(value) is int)):
            return value
        return _category(value)

    def make_bins(self) -> list[int]:
        """Make the bins of the first values; the bin of each of them."""
        values = self.first or []
        numbers = sorted(value for value in values if value is not None and not isinstance(value, str))
        names = [value for value in values if isinstance(value, str)]
        self.first = None
        if len(numbers) > len(names):
            self.edges = _edges(numbers)
        else:
            self.places = _places(names)
        self.block = [0] * (FIRST_BIN + (len(self.edges) + 1 if self.edges else len(self.places)))
        return [self._bin(value) for value in values]

    def count(self, bins: Iterable[int]) -> list[int]:
        """How many values fell into each bin."""
        counts = [0] * len(self.block)
        for bin in bins:
            counts[bin] += 1
        return counts

    def take_block(self) -> list[int]:
        """What was counted since the last call."""
        taken, self.block = self.block, [0] * len(self.block)
        return taken

    def name_of(self, bin: int) -> str:
        """The values of a bin, in words."""
        if bin in (MISSING, OTHER):
            return "missing" if bin == MISSING else "other"
        place = bin - FIRST_BIN
        if not self.edges:
            return next((name for name, at in self.places.items() if at == bin), "other")
        if place == 0:
            return f"below {self.edges[0]:.4g}"
        if place == len(self.edges):
            return f"above {self.edges[-1]:.4g}"
        return f"{self.edges[place - 1]:.4g} to {self.edges[place]:.4g}"


def _category(value: Scalar) -> str:
    return (value if type(value) is str else class_name(value))[:MAX_CATEGORY_CHARACTERS]


def _places(names: list[str]) -> dict[str, int]:
    """The bins of the most frequent categories, by name."""
    counts = {name: 0 for name in names}
    for name in names:
        counts[name] += 1
    frequent = sorted(counts, key=lambda name: (-counts[name], name))[:MAX_CATEGORIES]
    return {name: FIRST_BIN + i for i, name in enumerate(frequent)}


def _edges(numbers: list[float]) -> list[float]:
    """The upper ends of bins for sorted numbers: below the lowest; then each value, or each quantile."""
    distinct = sorted(set(numbers))
    if len(distinct) > MAX_DISTINCT:
        n = len(numbers)
        distinct = sorted({numbers[0], *(numbers[(n - 1) * i // QUANTILE_BINS] for i in range(1, QUANTILE_BINS + 1))})
    return [_just_below(distinct[0]), *distinct]


def _just_below(value: float) -> float:
    return max(-float_info.max, nextafter(value, -inf))
