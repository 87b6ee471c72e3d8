"""Good cases and all cases of an objective in buckets of time, and how fast they use up its budget of bad ones.

The windows, factors and severities are those of multi-window, multi-burn-rate alerts in chapter 5 of "The Site
Reliability Workbook" (Google, 2018), for an objective over 30 days.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from everloop_monitoring.domain.timeline import Severity

FINE_S, COARSE_S = 300, 21_600
FINE_KEPT, COARSE_KEPT = 73, 121
"""6 hours in buckets of 5 minutes and 30 days in buckets of 6 hours; one more each, as the newest has just begun."""
MAX_AHEAD_S = 300.0
"""Cases that lie further in the future are left out: a clock is wrong."""
WINDOWS_S = {"5m": 300, "30m": 1_800, "1h": 3_600, "6h": 21_600, "3d": 259_200, "30d": 2_592_000}


class BurnRule(NamedTuple):
    """An alert when the budget burns `factor` times too fast over a long window and still does over a short one."""

    long: str
    short: str
    factor: float
    severity: Severity


BURN_RULES = (
    BurnRule("1h", "5m", 14.4, "critical"),
    BurnRule("6h", "30m", 6.0, "critical"),
    BurnRule("3d", "6h", 1.0, "warning"),
)
Counts = tuple[int, int]
"""Good cases and all cases."""


class Counted(NamedTuple):
    """The cases of a bucket that begins at a time, in seconds since the epoch."""

    start_s: int
    good: int
    total: int


@dataclass
class Buckets:
    """The counts by bucket, whose key is the time since the epoch in widths of the bucket."""

    fine: dict[int, Counts] = field(default_factory=dict)
    coarse: dict[int, Counts] = field(default_factory=dict)

    def add(self, at_s: float, good: bool, now_s: float, n: int = 1) -> None:
        """Count `n` cases at a time."""
        if at_s > now_s + MAX_AHEAD_S:
            return
        _add(self.fine, int(at_s // FINE_S), good, n, int(now_s // FINE_S) - FINE_KEPT)
        _add(self.coarse, int(at_s // COARSE_S), good, n, int(now_s // COARSE_S) - COARSE_KEPT)

    def counts(self, window: str, now_s: float) -> Counts:
        """The cases of the latest window, to the width of a bucket."""
        length_s = WINDOWS_S[window]
        buckets, width_s = (self.fine, FINE_S) if length_s <= WINDOWS_S["6h"] else (self.coarse, COARSE_S)
        oldest = int(now_s // width_s) - length_s // width_s
        found = [counts for key, counts in buckets.items() if key >= oldest]
        return sum(good for good, _ in found), sum(total for _, total in found)

    def history(self, now_s: float) -> dict[str, list[Counted]]:
        """The cases over 6 hours by 5 minutes and over 30 days by 6 hours, oldest first; buckets without are absent."""
        return {
            "6h": _since(self.fine, FINE_S, now_s - WINDOWS_S["6h"]),
            "30d": _since(self.coarse, COARSE_S, now_s - WINDOWS_S["30d"]),
        }


def _since(buckets: dict[int, Counts], width_s: int, since_s: float) -> list[Counted]:
    oldest = int(since_s // width_s)
    return [Counted(key * width_s, *buckets[key]) for key in sorted(buckets) if key >= oldest]


def burn_rate(counts: Counts, share: float) -> float | None:
    """The share of bad cases divided by the share that may be bad: at 1 the budget lasts just as long as its period."""
    good, total = counts
    return (1 - good / total) / (1 - share) if total else None


def budget_left(counts: Counts, share: float) -> float | None:
    """The share of the budget that is left, below 0 where it is overdrawn; None without cases."""
    burned = burn_rate(counts, share)
    return None if burned is None else 1 - burned


def find_burning(buckets: Buckets, share: float, now_s: float, min_cases: int) -> BurnRule | None:
    """The gravest rule whose windows burn too fast, each with so many cases that it says something; None for none."""
    for rule in BURN_RULES:
        counts = buckets.counts(rule.long, now_s), buckets.counts(rule.short, now_s)
        rates = [burn_rate(one, share) for one in counts]
        if counts[0][1] >= min_cases and all(rate is not None and rate >= rule.factor for rate in rates):
            return rule
    return None


def _add(buckets: dict[int, Counts], key: int, good: bool, n: int, oldest: int) -> None:
    if key <= oldest:
        return
    known_good, known = buckets.get(key, (0, 0))
    if key not in buckets:
        for old in [one for one in buckets if one <= oldest]:
            del buckets[old]
    buckets[key] = (known_good + n * good, known + n)
