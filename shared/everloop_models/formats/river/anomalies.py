"""How unusual an observation is beside those before it: all features together, and the rarest one alone."""

from __future__ import annotations

from collections.abc import Sequence
from math import copysign
from typing import Any

from river import anomaly

from everloop_models.formats import RANDOM_SEED
from everloop_models.formats.river.rarity import Categories, LatestScores, Tails
from everloop_models.scaling import FIRST_VALUES, LARGEST, MIN_VALUES, Column
from everloop_schemas.envelope import Fields

TREES = 20
HEIGHT = 6
WINDOW = 250
"""Observations of which the trees know the masses; before so many there is no score."""
REACH = 5.0
"""Scales from the centre, beyond which all numbers are equally far out."""


class AnomalyScores:
    """Scores observations of one loop, and learns each one after it was scored.

    Two judges: half-space trees (Tan, Ting and Liu 2011) see where observations are rare in all features together, and
    hardly see one odd value among many features, as few of their splits are of its feature. So the tails of each
    feature are counted too, as Li et al. (2022) do on stored data. Each says how often an observation is as unusual;
    the smaller of the two counts, doubled because there are two, and that of the tails times the number of features.
    The score is one less this: of usual observations about one in a hundred is above 0.99.

    Trees take numbers from 0 to 1: a number is its distance from the centre in robust scales, so that one outlier moves
    nothing; a text or a boolean is how rare it is. A missing value follows the others, and is no evidence by itself.
    Memory is fixed: `TREES` trees of 127 nodes; tails, or `MAX_CATEGORIES` counts, for each feature.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._trees: Any = anomaly.HalfSpaceTrees(n_trees=TREES, height=HEIGHT, window_size=WINDOW, seed=RANDOM_SEED)
        self._columns: dict[str, Column] = {}
        self._tails: dict[str, Tails] = {}
        self._latest = LatestScores(WINDOW)
        self.categories: dict[str, Categories] = {}
        self._seen = 0

    def score(self, features: Fields) -> float | None:
        """From 0, usual, to 1; None before `WINDOW` observations were learned. Learns the observation afterwards."""
        x, rarest = self._inputs(features)
        found = None
        if self._seen <= WINDOW:
            self._seen += 1
            if self._seen == 1:  # the trees split the features that they see first, so they see all of them
                self._trees.learn_one(dict.fromkeys(self.names, 0.5))
        else:
            together = float(self._trees.score_one(x))
            found = 1.0 - min(1.0, 2 * min(self._latest.probability(together), rarest * len(x)))
            self._latest.learn(together)
        self._trees.learn_one(x)
        return found

    def _inputs(self, features: Fields) -> tuple[dict[str, float], float]:
        """The inputs of the trees, and how often a feature is as far out as the rarest one; learns both."""
        x, rarest = dict[str, float](), 1.0
        for name, value in features.items():
            if isinstance(value, str | bool):
                known = self.categories.get(name)
                if known is None:
                    known = self.categories[name] = Categories()
                x[name] = known.rarity(value)
                rarest = min(rarest, known.probability(value))
                known.learn(value)
            elif value is not None:
                column = self._columns.get(name)
                if column is None:
                    column, self._tails[name] = self._columns.setdefault(name, Column()), Tails()
                number = min(max(float(value), -LARGEST), LARGEST)
                scales = _scales_away(column, number)
                x[name] = min(max(scales, -REACH), REACH) / (2 * REACH) + 0.5
                if column.count >= FIRST_VALUES:
                    tails = self._tails[name]
                    rarest = min(rarest, tails.probability(scales))
                    tails.learn(scales)
                column.learn(number)
        return x, rarest


def _scales_away(column: Column, number: float) -> float:
    """Scales from the centre; `LARGEST` of them where all values before were the same."""
    away = number - column.centre
    if not away or column.count < MIN_VALUES:
        return 0.0
    return away / column.scale if column.scale else copysign(LARGEST, away)
