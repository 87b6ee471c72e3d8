"""A reference of what was usual, and a window of what comes now: when they differ, in which columns, and since when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from everloop_monitoring.domain.data_drift.columns import FIRST_BIN, MISSING, OTHER, Column
from everloop_monitoring.domain.data_drift.evidence import (
    Design,
    adjust,
    jensen_shannon,
    likeliest_start,
    measure_design,
    population_stability,
    probability_beyond,
    probability_of,
)
from everloop_monitoring.domain.data_drift.slices import SliceTrail, Trail, concentrated_in
from everloop_schemas.envelope import Scalar


@dataclass(frozen=True)
class ComparisonParameters:
    """When two samples count as different; lengths are in values of a column.

    They are counted in blocks of `block_values`. From the first `first_blocks` the bins are made; the reference has
    `reference_blocks`, the window the last `window_blocks`. It is looked at after each block, from `least_blocks` on.

    `level` is the false discovery rate at each look: without any change, false alarms are at least 1 / (2 level) looks
    apart on average, however long it runs and whatever looks have in common. A change smaller than `least_stability`
    (population stability index, of numbers) or `least_distance` (Jensen-Shannon, of categories) is none, whatever the
    evidence. A block lies beyond the reference when `beyond_share` of its numbers are above, or below, all of that,
    which counts where a block is worth `least_independent` independent values.
    """

    block_values: int = 50
    first_blocks: int = 4
    reference_blocks: int = 20
    window_blocks: int = 10
    least_blocks: int = 2
    level: float = 1e-3
    least_stability: float = 0.1
    least_distance: float = 0.1
    beyond_share: float = 0.2
    least_independent: float = 10.0


COMPARISON = ComparisonParameters()
NO_DESIGN = Design()
MAX_DIVIDED = 5
"""Of the columns that have changed, the largest changes first, of which slices are looked for."""


class Mark(NamedTuple):
    """Where the loop was when a block began: the time of its first record, and the outcomes before it.

    `offset` is that of the last outcome, -1 before the first; `outcomes` is their number.
    """

    time: datetime
    offset: int
    outcomes: int


class Change(NamedTuple):
    """A column that has changed: how far, with what evidence, and from which mark on.

    `distance` is the population stability index of numbers, the Jensen-Shannon distance of categories; `size` is the
    latter for both, by which changes are ordered. `probability` is after the control of false discoveries. `before` and
    `after` are the shares of the bin that changed most, in words. `slices` are those in which it is concentrated.
    """

    column: Column
    distance: float
    size: float
    probability: float
    before: str
    after: str
    mark: Mark
    slices: tuple[str, ...] = ()


@dataclass(slots=True)
class Counted:
    """A column with its blocks: those of the reference until it is complete, then those of the window.

    `bins` are those of each value, where the records are divided into slices; `latest` are those of the block.
    """

    column: Column
    blocks: list[list[int]] = field(default_factory=list)
    reference: list[int] = field(default_factory=list)
    design: Design = NO_DESIGN
    absences: Design = NO_DESIGN
    bins: Trail | None = None
    latest: list[int] = field(default_factory=list)

    def close_block(self, done: int) -> None:
        """End block number `done`: the bins are made after the first ones, then the reference, then the window."""
        column = self.column
        if done == COMPARISON.first_blocks:
            self._make_bins()
        elif done > COMPARISON.first_blocks:
            self.blocks.append(column.take_block())
            if self.bins is not None:
                self.bins.add(self.latest, COMPARISON.block_values)
                self.latest = []
        if done > COMPARISON.reference_blocks:
            del self.blocks[: -COMPARISON.window_blocks]
        if done == COMPARISON.reference_blocks:
            self.reference = _sum(self.blocks)
            self.design = measure_design([block[OTHER:] for block in self.blocks])
            self.absences = measure_design([_absence(block) for block in self.blocks])
            self.blocks, column.is_open = [], False

    def _make_bins(self) -> None:
        bins, values = self.column.make_bins(), COMPARISON.block_values
        self.blocks = [self.column.count(bins[i : i + values]) for i in range(0, len(bins), values)]
        if self.bins is not None:
            self.bins.add(bins, values)

    def window(self, start: int = 0) -> list[int]:
        """The counts of the window from this block on."""
        return _sum(self.blocks[start:]) if self.blocks[start:] else [0] * len(self.reference)

    def probability(self) -> float:
        """The probability of a window like this one where nothing has changed; 1 for a change that is too small.

        The values, how often they are missing, and of numbers how long one lasts and how many are beyond all before
        are tested. The least of the four counts, by weights of 1/3, 1/6, 1/6 and 1/3 (weighted Bonferroni).
        """
        window = self.window()
        values = probability_of(self.reference[OTHER:], window[OTHER:], self.design)
        missing = probability_of(_absence(self.reference), _absence(window), self.absences)
        often, seldom = min(values, self._beyond_probability()), min(missing, self._run_probability())
        probability = min(1.0, 3 * often, 6 * seldom)
        if probability > COMPARISON.level:
            return probability
        return probability if self._is_large(window) else 1.0

    def _run_probability(self) -> float:
        """The probability of the latest number's run beyond a block and beyond twice the longest of the reference."""
        column, n = self.column, COMPARISON.reference_blocks * COMPARISON.block_values
        excess = column.run - max(COMPARISON.block_values, 2 * column.longest)
        return ((column.repeats + 1) / (n + 1)) ** excess if excess > 0 and column.is_number else 1.0

    def _beyond_probability(self) -> float:
        """The probability of as many blocks with a fifth of their numbers above, or below, all of the reference.

        1 where numbers are so much like their neighbours that a block shows a moment, and not what is usual.
        """
        values = COMPARISON.block_values
        if not self.column.is_number or self.design.within > values / COMPARISON.least_independent:
            return 1.0
        least = COMPARISON.beyond_share * values
        beyond = max(sum(block[side] >= least for block in self.blocks) for side in (FIRST_BIN, -1))
        return min(1.0, 2 * probability_beyond(beyond, len(self.blocks), COMPARISON.reference_blocks))

    def distance(self, window: Sequence[int]) -> float:
        """How far the window is from the reference, by the column's own measure."""
        measure = population_stability if self.column.is_number else jensen_shannon
        return measure(self.reference, window)

    def _is_large(self, window: Sequence[int]) -> bool:
        least = COMPARISON.least_stability if self.column.is_number else COMPARISON.least_distance
        return self.distance(window) >= least

    def change(self, probability: float, marks: Sequence[Mark]) -> Change:
        """What has changed, in the window's blocks after the likeliest start of the change."""
        start = likeliest_start(self.reference, self.blocks)
        after = self.window(start)
        before_shares, after_shares = _shares(self.reference), _shares(after)
        most = max(range(len(after)), key=lambda i: abs(after_shares[i] - before_shares[i]))
        name, size = self.column.name_of(most), jensen_shannon(self.reference, after)
        before, now = (f"{name}: {of[most]:.0%}" for of in (before_shares, after_shares))
        return Change(self.column, self.distance(after), size, probability, before, now, marks[start])


@dataclass(slots=True)
class Comparison:
    """Compares the latest values of columns with the first ones; `version` is the champion under which it began.

    `slices` are the features by which its records are divided.
    """

    version: str
    began: Mark
    columns: list[Counted]
    values: int = 0
    marks: list[Mark] = field(default_factory=list)
    reported: bool = False
    slices: list[SliceTrail] = field(default_factory=list)

    @staticmethod
    def of(columns: Sequence[Column], slices: Sequence[str], version: str, began: Mark) -> Comparison:
        """A comparison that begins now."""
        counted = [Counted(column, bins=Trail() if slices else None) for column in columns]
        return Comparison(version, began, counted, slices=[SliceTrail(name) for name in slices])

    @property
    def is_complete(self) -> bool:
        """Whether it has a reference."""
        return self.values >= COMPARISON.reference_blocks * COMPARISON.block_values

    def add(self, values: Mapping[str, Scalar | None], mark: Mark) -> bool:
        """Add the values of one record, where absent is missing; whether a block is complete."""
        if self.values % COMPARISON.block_values == 0:
            self.marks.append(mark)
        get = values.get
        for counted in self.columns:
            column = counted.column
            bin = column.add(get(column.key))
            if counted.bins is not None and bin is not None:
                counted.latest.append(bin)
        for sliced in self.slices:
            sliced.add(get(sliced.name))
        self.values += 1
        if self.values % COMPARISON.block_values:
            return False
        self._close_block()
        return True

    def _close_block(self) -> None:
        done = self.values // COMPARISON.block_values
        for counted in self.columns:
            counted.close_block(done)
        for sliced in self.slices:
            sliced.close_block()
        trails = [*(sliced.trail for sliced in self.slices), *(c.bins for c in self.columns if c.bins is not None)]
        if done == COMPARISON.reference_blocks:
            self.marks = []
            for trail in trails:
                trail.end_reference()
        elif done > COMPARISON.reference_blocks:
            del self.marks[: -COMPARISON.window_blocks]
            for trail in trails:
                trail.keep(COMPARISON.window_blocks)

    def find_changes(self) -> list[Change]:
        """The columns whose window differs from the reference, the largest change first; to be asked after a block."""
        if self.reported or not self.is_complete or len(self.marks) < COMPARISON.least_blocks:
            return []
        adjusted = adjust([counted.probability() for counted in self.columns])
        found = [
            (counted, counted.change(probability, self.marks))
            for counted, probability in zip(self.columns, adjusted, strict=True)
            if probability <= COMPARISON.level
        ]
        found.sort(key=lambda one: (-one[1].size, one[1].probability, one[1].column.name))
        divided = [change._replace(slices=self._slices_of(of, change)) for of, change in found[:MAX_DIVIDED]]
        return [*divided, *(change for _, change in found[MAX_DIVIDED:])]

    def _slices_of(self, counted: Counted, change: Change) -> tuple[str, ...]:
        """The slices in which a change is concentrated, the largest effect first; no field divides its own change."""
        if counted.bins is None:
            return ()
        start, scale, own = self.marks.index(change.mark), counted.design.scale, counted.column.key
        found = [
            effect
            for sliced in self.slices
            if sliced.name != own
            for effect in concentrated_in(sliced, counted.bins, start, scale)
        ]
        return tuple(effect.slice for effect in sorted(found, key=lambda effect: (-effect.size, effect.slice)))


def _absence(counts: Sequence[int]) -> tuple[int, int]:
    return counts[MISSING], sum(counts) - counts[MISSING]


def _sum(blocks: Sequence[Sequence[int]]) -> list[int]:
    return [sum(bins) for bins in zip(*blocks, strict=True)]


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts) or 1
    return [n / total for n in counts]
