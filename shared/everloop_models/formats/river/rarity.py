"""How rarely one feature is as far out, or as seldom, as a value is, learned from the stream."""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections import deque
from math import asinh

MAX_CATEGORIES = 200
"""Texts of one feature that are counted; further ones are as rare as can be."""
VALUES = 2_500
"""After so many values all counts are halved, so that what has become rare is rare."""
BINS = 80
STEP = 0.125
"""Of the inverse hyperbolic sine of a distance in scales, so that bins are narrow near the centre and reach far out."""
USUAL_SHARE = 0.05
"""A value within the middle of the values, without this share at either end, is no evidence."""
CHECKED_EVERY = 250
"""Values after which that middle is found again."""
MANY = 0.1
"""A text with more than this share is no evidence."""


class Tails:
    """The values of one number, counted by their distance from the centre in scales. Memory is fixed."""

    __slots__ = ("_counts", "_high", "_learned", "_low", "_total")

    def __init__(self) -> None:
        self._counts = array("d", bytes(8 * (2 * BINS + 1)))
        self._total, self._learned = 0.0, 0
        self._low, self._high = 0, 2 * BINS

    def probability(self, distance: float) -> float:
        """How often a value is as far out on either side; beyond all values half as often with each bin."""
        at, counts = _bin(distance), self._counts
        if self._low < at < self._high or not self._total:
            return 1.0
        step = -1 if at >= BINS else 1
        mass = sum(counts[at:] if at >= BINS else counts[: at + 1])
        if mass:
            return min(1.0, 2 * mass / self._total)
        nearest = at
        while nearest != BINS and not counts[nearest]:
            nearest += step
        return float(0.5 ** (1 + abs(at - nearest)) / self._total)

    def learn(self, distance: float) -> None:
        """Count a value."""
        self._counts[_bin(distance)] += 1.0
        self._total += 1.0
        self._learned += 1
        if self._total >= VALUES:
            self._counts = array("d", [count / 2 if count >= 1 else 0.0 for count in self._counts])
            self._total = sum(self._counts)
        if not self._learned % CHECKED_EVERY:
            self._find_middle()

    def _find_middle(self) -> None:
        """The first bins, from either end, that are not the rarest any more."""
        for ascending in (True, False):
            left = USUAL_SHARE * self._total
            for at in range(2 * BINS + 1) if ascending else range(2 * BINS, -1, -1):
                left -= self._counts[at]
                if left < 0:
                    self._low, self._high = (at, self._high) if ascending else (self._low, at)
                    break


def _bin(distance: float) -> int:
    return min(max(round(asinh(distance) / STEP), -BINS), BINS) + BINS


class Categories:
    """The texts, or the booleans, of one feature. At most `MAX_CATEGORIES` are counted."""

    __slots__ = ("_counts", "_total")

    def __init__(self) -> None:
        self._counts: dict[str | bool, float] = {}
        self._total = 0.0

    def __len__(self) -> int:
        return len(self._counts)

    def rarity(self, value: str | bool) -> float:
        """One less the share of the value."""
        return 1.0 - self._counts.get(value, 0.0) / self._total if self._total else 0.5

    def probability(self, value: str | bool) -> float:
        """How often a value is as rare as this one, or rarer: where most are rare, a rare one is no evidence."""
        own = self._counts.get(value, 0.0)
        if not self._total or own > MANY * self._total:
            return 1.0
        common = sum([count for count in self._counts.values() if count > own])
        return (self._total - common + 0.5) / (self._total + 1)

    def learn(self, value: str | bool) -> None:
        """Count a value."""
        self._total += 1
        if value in self._counts or len(self._counts) < MAX_CATEGORIES:
            self._counts[value] = self._counts.get(value, 0.0) + 1
        if self._total >= VALUES:
            halved = {known: count / 2 for known, count in self._counts.items() if count >= 2}
            self._counts, self._total = halved, self._total / 2


class LatestScores:
    """The last scores, in order."""

    __slots__ = ("_latest", "_ordered")

    def __init__(self, size: int) -> None:
        self._latest = deque[float](maxlen=size)
        self._ordered: list[float] = []

    def probability(self, score: float) -> float:
        """How often a score is as high."""
        count = len(self._ordered)
        return (1 + count - bisect_left(self._ordered, score)) / (count + 1)

    def learn(self, score: float) -> None:
        """Keep a score in the place of the oldest."""
        if len(self._latest) == self._latest.maxlen:
            del self._ordered[bisect_left(self._ordered, self._latest[0])]
        self._latest.append(score)
        insort(self._ordered, score)
