"""What lines did on the latest outcomes, in blocks that are added up, corrected and dropped whole."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from everloop_metrics import MetricSums, metric_input
from everloop_metrics.fairness import GroupSums
from everloop_metrics.groups import SAME, Groups
from everloop_schemas.envelope import Scalar

BLOCK_OUTCOMES = 200
BLOCKS = 10
"""The window is the last 1,800 to 2,000 outcomes."""
MAX_LINES = 6
"""Of a block; further lines are not counted."""
POSITIVE = "true"


class LinePrediction(NamedTuple):
    """What a line predicted for an outcome."""

    line: str
    value: Scalar
    probabilities: Mapping[str, float] | None


@dataclass
class LineSums:
    """The outcomes of one line: sums by metric, and by field and group."""

    outcomes: int = 0
    metrics: dict[str, MetricSums] = field(default_factory=dict)
    fields: dict[str, dict[str, GroupSums]] = field(default_factory=dict)

    def merge(self, other: LineSums) -> None:
        """Add the outcomes of another one."""
        self.outcomes += other.outcomes
        for metric, sums in other.metrics.items():
            counts = self.metrics.setdefault(metric, MetricSums()).counts
            for name, amount in sums.counts.items():
                counts[name] = counts.get(name, 0) + amount
        for name, groups in other.fields.items():
            for group, part in groups.items():
                self.fields.setdefault(name, {}).setdefault(group, GroupSums()).merge(part)

    def rename(self, name: str, renamed: Mapping[str, str]) -> None:
        """Give groups of a field new names, and merge those that have the same."""
        before = self.fields.get(name, {})
        self.fields[name] = after = dict[str, GroupSums]()
        for group, sums in before.items():
            after.setdefault(renamed.get(group, group), GroupSums()).merge(sums)


@dataclass
class Block:
    """Outcomes from offset `start` on, up to the next block, by line."""

    start: int
    outcomes: int = 0
    lines: dict[str, LineSums] = field(default_factory=dict)


@dataclass
class MeasureWindow:
    """The latest outcomes of each line, measured by `metrics` and divided by the groups of `fields`.

    Sums are whole numbers, and an outcome is corrected in the block that it was added to, so that the window is the
    same in any order of corrections. An outcome from before the first block is in it no more.
    """

    fields: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    max_lines: int = MAX_LINES
    groups: dict[str, Groups] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)

    def begin_outcome(self, offset: int, features: Mapping[str, Scalar | None]) -> None:
        """Make room for a new outcome, whose predictions are added next."""
        if not self.blocks or self.blocks[-1].outcomes >= BLOCK_OUTCOMES:
            self.blocks.append(Block(offset))
            del self.blocks[:-BLOCKS]
        self.blocks[-1].outcomes += 1
        for name in self.fields:
            if renamed := self.groups.setdefault(name, Groups()).add(features.get(name)):
                for sums in (sums for block in self.blocks for sums in block.lines.values()):
                    sums.rename(name, renamed)

    def add(
        self,
        offset: int,
        features: Mapping[str, Scalar | None],
        label: Scalar,
        predictions: Iterable[LinePrediction],
        sign: int = 1,
    ) -> None:
        """Add what lines predicted for an outcome, or with sign -1 subtract it; labels of `fields` are booleans."""
        block = self._block_of(offset)
        if block is None:
            return
        groups = [(name, self.groups[name].name_of(features.get(name))) for name in self.fields]
        for line, value, probabilities in predictions:
            if line not in block.lines and len(block.lines) >= self.max_lines:
                continue
            sums = block.lines.setdefault(line, LineSums())
            sums.outcomes += sign
            for metric in self.metrics:
                of = metric_input(metric, label, value, probabilities)
                sums.metrics.setdefault(metric, MetricSums()).add(metric, of, sign)
            chance = probabilities.get(POSITIVE, 0.0) if probabilities else None
            for name, group in groups:
                of_group = sums.fields.setdefault(name, {}).setdefault(group, GroupSums())
                of_group.add(label is True, value is True, chance, sign)

    def lines(self) -> list[str]:
        """The lines, those of the latest block first."""
        return list(dict.fromkeys(line for block in reversed(self.blocks) for line in block.lines))

    def sums_of(self, line: str) -> LineSums:
        """The sums of a line over the window, its groups as if no more numbers came that ranges are cut by."""
        total = LineSums()
        for block in self.blocks:
            if line in block.lines:
                total.merge(block.lines[line])
        for name, groups in self.groups.items():
            renamed = groups.settled()[1] if groups.first else SAME
            if renamed:
                total.rename(name, renamed)
        return total

    def _block_of(self, offset: int) -> Block | None:
        at = bisect_right(self.blocks, offset, key=lambda block: block.start)
        return self.blocks[at - 1] if at else None
