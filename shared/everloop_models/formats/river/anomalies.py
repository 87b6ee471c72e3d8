"""How unusual an observation is beside those before it, by half-space trees that learn from the stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from river import anomaly

from everloop_models.formats import RANDOM_SEED
from everloop_models.scaling import LARGEST, MIN_VALUES, Column
from everloop_schemas.envelope import Fields

TREES = 20
HEIGHT = 6
WINDOW = 250
"""Observations of which the trees know the masses; before so many there is no score."""
REACH = 5.0
"""Scales from the centre, beyond which all numbers are equally far out."""
MAX_CATEGORIES = 200
"""Texts of one feature that are counted; further ones are as rare as can be."""


class Categories:
    """How rare each text of one feature is, from 0 for what is always there to 1. At most `MAX_CATEGORIES` are counted,
    and all counts are halved from time to time, so that what has become rare is rare.
    """

    __slots__ = ("_counts", "_total")

    def __init__(self) -> None:
        self._counts: dict[str | bool, float] = {}
        self._total = 0.0

    def rarity(self, value: str | bool) -> float:
        """One less the share of the value."""
        return 1.0 - self._counts.get(value, 0.0) / self._total if self._total else 0.5

    def __len__(self) -> int:
        return len(self._counts)

    def learn(self, value: str | bool) -> None:
        """Count a value."""
        self._total += 1
        if value in self._counts or len(self._counts) < MAX_CATEGORIES:
            self._counts[value] = self._counts.get(value, 0.0) + 1
        if self._total >= 10 * WINDOW:
            halved = {known: count / 2 for known, count in self._counts.items() if count >= 2}
            self._counts, self._total = halved, self._total / 2


class AnomalyScores:
    """Scores observations of one loop, and learns each one after it was scored.

    Half-space trees (Tan, Ting and Liu 2011) take numbers from 0 to 1: a number is its distance from the centre in
    robust scales, so that one outlier moves nothing; a text or a boolean is how rare it is. A missing value follows the
    others. Memory is fixed: `TREES` trees of 127 nodes, a scale or `MAX_CATEGORIES` counts for each feature.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._trees: Any = anomaly.HalfSpaceTrees(n_trees=TREES, height=HEIGHT, window_size=WINDOW, seed=RANDOM_SEED)
        self._columns: dict[str, Column] = {}
        self.categories: dict[str, Categories] = {}
        self._seen = 0

    def score(self, features: Fields) -> float | None:
        """From 0, usual, to 1; None before `WINDOW` observations were learned. Learns the observation afterwards."""
        x = self._inputs(features)
        if self._seen <= WINDOW:
            self._seen += 1
            if self._seen == 1:  # the trees split the features that they see first, so they see all of them
                self._trees.learn_one(dict.fromkeys(self.names, 0.5))
            found = None
        else:
            found = min(max(float(self._trees.score_one(x)), 0.0), 1.0)
        self._trees.learn_one(x)
        return found

    def _inputs(self, features: Fields) -> dict[str, float]:
        """The inputs of the trees, from what was learned before; learns the observation's own scales."""
        x: dict[str, float] = {}
        for name, value in features.items():
            if isinstance(value, str | bool):
                known = self.categories.get(name)
                if known is None:
                    known = self.categories[name] = Categories()
                x[name] = known.rarity(value)
                known.learn(value)
            elif value is not None:
                column = self._columns.get(name)
                if column is None:
                    column = self._columns[name] = Column()
                number = min(max(float(value), -LARGEST), LARGEST)
                x[name] = _distance(column, number) / (2 * REACH) + 0.5
                column.learn(number)
        return x


def _distance(column: Column, number: float) -> float:
    """Scales from the centre, at most `REACH` to either side."""
    away = number - column.centre
    if not away or column.count < MIN_VALUES:
        return 0.0
    if not column.scale:
        return REACH if away > 0 else -REACH
    return min(max(away / column.scale, -REACH), REACH)
