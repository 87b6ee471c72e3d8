"""The groups that an outcome belongs to: all that was served, versions, lines, roles and the values of slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from everloop_learning.version import line_of
from everloop_metrics.groups import Groups
from everloop_monitoring.domain.quality.judged import Parts
from everloop_monitoring.domain.quality.sums import QualitySums
from everloop_schemas.envelope import Scalar

MAX_NAMED = 20
"""Versions and lines that have sums, each; the one that predicted longest ago is forgotten."""
LIMITED = ("version", "line")
SHADOW = "shadow"


class GroupKey(NamedTuple):
    """What divides outcomes, the field of a slice, and the group's name."""

    by: str
    field: str
    name: str

    def __str__(self) -> str:
        return "\t".join(self)

    @classmethod
    def parse(cls, text: str) -> GroupKey:
        """The key of a text that `str` made."""
        return cls(*text.split("\t", 2))


class Predicted(NamedTuple):
    """Who made a prediction on an outcome, served or in shadow."""

    version: str
    role: str


SERVED = "served\t\tserved"


def keys_of(who: Sequence[Predicted], slices: Mapping[str, str]) -> list[list[str]]:
    """The keys of the groups of each prediction on one outcome, of which the first was served, as text.

    Of two versions of a line the first counts for the line.
    """
    lines, found = set[str](), list[list[str]]()
    for version, role in who:
        keys = [f"version\t\t{version}", f"role\t\t{role}"]
        if (line := line_of(version)) not in lines:
            lines.add(line)
            keys.append(f"line\t\t{line}")
        if not found:
            keys += (SERVED, *(f"slice\t{name}\t{group}" for name, group in slices.items()))
        found.append(keys)
    return found


@dataclass(slots=True)
class GroupedSums:
    """The sums of each group, by the text of its key; at most `MAX_NAMED` versions and lines."""

    sums: dict[str, QualitySums] = field(default_factory=dict)
    forgotten_before: dict[str, int] = field(default_factory=dict)

    def add(self, keys: Sequence[str], offset: int, parts: Parts, sign: int = 1) -> None:
        """Add a prediction on the outcome at an offset to its groups, but to none that counts from a later one on."""
        for key in keys:
            sums = self._of(key, offset, sign)
            if sums is not None and offset >= sums.since:
                sums.add(parts, sign)
                sums.last = max(sums.last, offset)

    def rename(self, name: str, renamed: Mapping[str, str]) -> None:
        """Give groups of a slice their new names; groups of one name become one."""
        for before, after in renamed.items():
            old = self.sums.pop(str(GroupKey("slice", name, before)), None) if before != after else None
            if old is not None:
                self.sums.setdefault(str(GroupKey("slice", name, after)), QualitySums(old.since)).merge(old)

    def drop_slice(self, name: str) -> None:
        """Forget the groups of a slice."""
        self.sums = {text: sums for text, sums in self.sums.items() if GroupKey.parse(text)[:2] != ("slice", name)}

    def _of(self, text: str, offset: int, sign: int) -> QualitySums | None:
        if (known := self.sums.get(text)) is not None or sign < 0:
            return known
        key = GroupKey.parse(text)
        since = self.forgotten_before.get(key.by, 0)
        if key.by in LIMITED and offset >= since:
            self._make_room(key.by)
            since = self.forgotten_before.get(key.by, 0)
        if offset < since:
            return None
        return self.sums.setdefault(text, QualitySums(since))

    def _make_room(self, by: str) -> None:
        known = [text for text in self.sums if text.startswith(f"{by}\t")]
        if len(known) >= MAX_NAMED:
            oldest = min(known, key=lambda text: self.sums[text].last)
            latest = self.sums.pop(oldest).last
            self.forgotten_before[by] = max(self.forgotten_before.get(by, 0), latest + 1)


@dataclass(slots=True)
class Slice:
    """A field by whose values outcomes are divided, from offset `since` on."""

    since: int
    groups: Groups = field(default_factory=Groups)


def scalar_of(value: object) -> Scalar | None:
    """A feature's value as it divides outcomes; a list or an object does not, and counts as missing."""
    return value if isinstance(value, bool | int | float | str) else None
