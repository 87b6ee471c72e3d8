"""Finds the slices in which a drift is concentrated: its effect on a group of records beside that on all others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import NamedTuple

from everloop_metrics.groups import Groups
from everloop_monitoring.domain.data_drift.evidence import shares
from everloop_schemas.envelope import Scalar

FIRST_CHARACTER = 48
LEAST_BEFORE, LEAST_AFTER = 30, 10
"""Records of a group, and of all others, without which nothing is said of it."""
LEAST_EVIDENCE = 4.0
"""By how many standard errors the effect on a group must be above that on all others."""
MOST_ELSEWHERE = 0.5
"""The effect on all others is at most so much of that on a group in which the drift is concentrated."""
Pairs = Mapping[tuple[str, str], int]
"""How many records of a group fell into a bin, each named by its character."""


@dataclass(slots=True)
class Trail:
    """Small numbers in the order of the records, a character each: of the reference, and of the window by block."""

    before: str = ""
    blocks: list[str] = field(default_factory=list)

    def add(self, numbers: Sequence[int], block_values: int) -> None:
        """Add the numbers of one block or several."""
        text = "".join(chr(FIRST_CHARACTER + number) for number in numbers)
        self.blocks += (text[i : i + block_values] for i in range(0, len(text), block_values))

    def end_reference(self) -> None:
        """What came so far is the reference."""
        self.before, self.blocks = "".join(self.blocks), []

    def keep(self, most: int) -> None:
        """Forget all but the last blocks."""
        del self.blocks[:-most]

    def translate(self, characters: Mapping[int, str]) -> None:
        """Replace each number by another one, both as characters."""
        self.before = self.before.translate(characters)
        self.blocks = [block.translate(characters) for block in self.blocks]

    def after(self, start: int) -> str:
        """What came from this block of the window on."""
        return "".join(self.blocks[start:])


@dataclass(slots=True)
class SliceTrail:
    """The group of each record by the values of a feature; `names` are the groups by place, `block` the latest ones."""

    name: str
    groups: Groups = field(default_factory=Groups)
    names: list[str] = field(default_factory=list)
    block: list[int] = field(default_factory=list)
    trail: Trail = field(default_factory=Trail)

    def add(self, value: Scalar | None) -> None:
        """Add a record; the first numbers wait until it is known how they are cut."""
        if renamed := self.groups.add(value):
            self._rename(renamed)
        self.block.append(self._place(self.groups.name_of(value)))

    def _place(self, name: str) -> int:
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    def _rename(self, renamed: Mapping[str, str]) -> None:
        """Give groups their new names, and the places of those that are left."""
        before, self.names = self.names, []
        places = [self._place(renamed.get(name, name)) for name in before]
        characters = {FIRST_CHARACTER + i: chr(FIRST_CHARACTER + place) for i, place in enumerate(places)}
        self.trail.translate(characters)
        self.block = [places[place] for place in self.block]

    def close_block(self) -> None:
        """End a block."""
        self.trail.add(self.block, len(self.block))
        self.block = []


class Concentrated(NamedTuple):
    """A slice in which a drift is concentrated: by how much its records moved, and its name, `field=value`."""

    size: float
    slice: str


class Effect(NamedTuple):
    """How far some records moved in the direction of a drift, with the variance of that; `n` before and after."""

    size: float
    variance: float
    before: int
    after: int

    @property
    def is_known(self) -> bool:
        """Whether there were enough records."""
        return self.before >= LEAST_BEFORE and self.after >= LEAST_AFTER


def concentrated_in(sliced: SliceTrail, bins: Trail, start: int, scale: float) -> list[Concentrated]:
    """The groups of a slice in which a column's drift since block `start` is concentrated, each with its effect.

    Each bin weighs what the drift did to its share, (after - before) / (after + before), and the effect on a group is
    by how much the mean weight of its records rose, so that a group is compared with itself, whatever it was like
    before. `scale` is how many times as much the column varies as independent values. A drift everywhere is
    concentrated nowhere, and neither is one of the shares of the groups.
    """
    before = Counter(zip(sliced.trail.before, bins.before, strict=True))
    after = Counter(zip(sliced.trail.after(start), bins.after(start), strict=True))
    weights = _weights(before, after)
    found = []
    for place, name in enumerate(sliced.names):
        group = chr(FIRST_CHARACTER + place)
        inside, outside = (_effect(before, after, weights, group, is_inside) for is_inside in (True, False))
        if _is_concentrated(inside, outside, scale):
            found.append(Concentrated(inside.size, f"{sliced.name}={name}"))
    return found


def _is_concentrated(inside: Effect, outside: Effect, scale: float) -> bool:
    if not inside.is_known or not outside.is_known or outside.size > MOST_ELSEWHERE * inside.size:
        return False
    return inside.size - outside.size >= LEAST_EVIDENCE * sqrt(scale * (inside.variance + outside.variance))


def _weights(before: Pairs, after: Pairs) -> dict[str, float]:
    bins = sorted({bin for pairs in (before, after) for _, bin in pairs})
    was, now = (shares([_of_bin(pairs, bin) for bin in bins]) for pairs in (before, after))
    return {bin: (q - p) / (q + p) for bin, p, q in zip(bins, was, now, strict=True)}


def _of_bin(pairs: Pairs, bin: str) -> int:
    return sum(n for (_, of), n in pairs.items() if of == bin)


def _effect(before: Pairs, after: Pairs, weights: Mapping[str, float], group: str, is_inside: bool) -> Effect:
    (n, mean, variance), (m, mean_after, variance_after) = (
        _moments((weights[bin], count) for (of, bin), count in pairs.items() if (of == group) is is_inside)
        for pairs in (before, after)
    )
    return Effect(mean_after - mean, variance + variance_after, n, m)


def _moments(weighted: Iterable[tuple[float, int]]) -> tuple[int, float, float]:
    """How many there are, their mean, and the variance of the mean, which equal values do not make 0."""
    pairs = list(weighted)
    n = sum(count for _, count in pairs)
    if not n:
        return 0, 0.0, 0.0
    mean = sum(weight * count for weight, count in pairs) / n
    spread = sum(count * (weight - mean) ** 2 for weight, count in pairs)
    return n, mean, (spread + 1) / (n * n)
