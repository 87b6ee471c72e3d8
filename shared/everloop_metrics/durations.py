"""Quantiles of durations from a sketch, from which a duration can be subtracted again."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, log

SHORTEST_S, LONGEST_S = 1e-3, 1e9
GROWTH = 1.1
"""Of the bounds of neighbouring bins: a quantile is within 5 % of the true one."""


@dataclass(slots=True)
class Durations:
    """Counts of durations by logarithmic bin (DDSketch: Masson, Rim and Lee 2019); at most 290 bins."""

    bins: dict[int, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many durations there are."""
        return sum(self.bins.values())

    def add(self, seconds: float, sign: int = 1) -> None:
        """Add a duration, or with sign -1 subtract it; below 1 ms it counts as 1 ms."""
        place = ceil(log(min(LONGEST_S, max(SHORTEST_S, seconds)) / SHORTEST_S) / log(GROWTH))
        left = self.bins.get(place, 0) + sign
        if left:
            self.bins[place] = left
        else:
            self.bins.pop(place, None)

    def quantile(self, share: float) -> float | None:
        """The duration in seconds that this share of them does not exceed; None without any."""
        rank, below = share * (self.count - 1), 0
        for place in sorted(self.bins):
            below += self.bins[place]
            if below > rank:
                return float(SHORTEST_S * 2 * GROWTH**place / (1 + GROWTH))
        return None
