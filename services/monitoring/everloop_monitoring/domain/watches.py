"""Every kind of watch, and which of them a loop's spec turns on."""

from __future__ import annotations

from collections.abc import Sequence

from everloop_monitoring.domain.data_drift.watch import DriftWatch
from everloop_monitoring.domain.expectations import ExpectationWatch
from everloop_monitoring.domain.fairness import FairnessWatch
from everloop_monitoring.domain.objectives import ObjectivesWatch
from everloop_monitoring.domain.quality.watch import QualityWatch
from everloop_monitoring.domain.rule_watch import RuleWatch
from everloop_monitoring.domain.watch import Watch
from everloop_schemas.loop import LoopSpec

WATCHES: tuple[type[Watch], ...] = (
    DriftWatch,
    ExpectationWatch,
    FairnessWatch,
    QualityWatch,
    RuleWatch,
    ObjectivesWatch,
)
"""In the order in which records are given to them."""


def watches_of(spec: LoopSpec, watches: Sequence[type[Watch]] = WATCHES) -> tuple[type[Watch], ...]:
    """The kinds of watch that a spec turns on."""
    return tuple(watch for watch in watches if watch.is_on(spec))
