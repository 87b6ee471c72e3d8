"""Which versions learned from a person's outcomes, as their manifests say."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from everloop.personal.export import Line

SUBMITTED = "submitted"


@dataclass(frozen=True)
class LearnedOutcomes:
    """The offsets of a person's outcomes on the loop's log, ascending.

    Those up to `erased_until` were erased at `erased`, a time in RFC 3339: versions of runs that were requested later
    were made without them.
    """

    offsets: Sequence[int]
    erased_offsets: frozenset[int] = frozenset()
    erased: str | None = None

    @classmethod
    def of(cls, lines: Iterable[Line], erased: str | None) -> LearnedOutcomes:
        """From the lines of an export, and the time of the last erasure."""
        outcomes = [line for line in lines if line["kind"] == "outcome"]
        gone = frozenset(line["offset"] for line in outcomes if line["personal"] == "erased")
        return cls(sorted({line["offset"] for line in outcomes}), gone, erased)

    def count_in(self, start: int, end: int, requested: str | None) -> int:
        """How many a version learned of offsets `start` up to and including `end`, of a run requested then."""
        found = self.offsets[bisect_left(self.offsets, start) : bisect_left(self.offsets, end + 1)]
        if requested is None or self.erased is None or _moment(requested) <= _moment(self.erased):
            return len(found)
        return sum(1 for offset in found if offset not in self.erased_offsets)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def versions_with(
    outcomes: LearnedOutcomes, versions: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The versions that learned from the person, oldest first, with how many of the outcomes.

    Of a model that was trained elsewhere nobody but its trainer knows: it is listed with None where its manifest names
    no data set.
    """
    requested = {run["run"]: run["requested"] for run in runs}
    found = []
    for version in versions:
        manifest = version["manifest"]
        known = manifest.get("data_set")
        if known is None and version["reason"] == SUBMITTED:
            count = None
        else:
            start, end = (known["start"], known["end"]) if known else (manifest["start_offset"], manifest["end_offset"])
            count = outcomes.count_in(start, end, requested.get(version["run"]))
        if count != 0:
            held = {
                "version": version["version"],
                "outcomes": count,
                "serves": version["slot"],
                "kept": version["kept"],
            }
            found.append(held)
    return found
