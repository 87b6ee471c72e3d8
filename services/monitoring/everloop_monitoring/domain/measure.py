"""What was served and the baselines, by the metric that the loop names."""

from __future__ import annotations

from dataclasses import dataclass, field

from everloop_metrics import Heard, Sums, heard, score_of
from everloop_monitoring.domain.scores import ROLLING, Baselines
from everloop_schemas.envelope import Scalar

DEFAULTS = ("accuracy", "mae")
"""Metrics that the errors of every loop say already; of the others `Measure` keeps what they need."""
Said = tuple[Heard, Heard, Heard]
"""An outcome with what was served, and what no change and the majority had said."""


@dataclass(slots=True)
class Measure:
    """Sums of one metric over all outcomes since offset `since`, and the last `ROLLING` that were served."""

    metric: str = ""
    served: Sums = field(default_factory=Sums)
    no_change: Sums = field(default_factory=Sums)
    majority: Sums = field(default_factory=Sums)
    recent: list[tuple[int, Heard]] = field(default_factory=list)
    since: int = -1

    def heard(self, metric: str, offset: int, said: Said | None) -> None:
        """Count the first word on the outcome at an offset; None where the metric needs nothing of its own."""
        if said is None:
            return
        if metric != self.metric:
            self.metric, self.since, self.recent = metric, offset, []
            self.served, self.no_change, self.majority = Sums(), Sums(), Sums()
        self.recent = [*self.recent[-ROLLING + 1 :], (offset, said[0])]
        self._count(said, 1)

    def corrected(self, offset: int, before: Said | None, now: Said | None) -> None:
        """Another label counts for an outcome; one that came before the metric was named stays out."""
        if not self.metric or offset < self.since:
            return
        for said, sign in ((before, -1), (now, 1)):
            if said is not None:
                self._count(said, sign)
        if now is None:
            self.recent = [(at, one) for at, one in self.recent if at != offset]
        else:
            self.recent = [(at, now[0] if at == offset else one) for at, one in self.recent]

    def scores(self, metric: str) -> dict[str, float | None]:
        """Whole-log scores beside the rolling one; None where the metric is undefined, or another is counted."""
        if metric != self.metric:
            return dict.fromkeys(("served", "rolling", "no_change", "majority"))
        return {
            "served": self.served.score(metric),
            "rolling": score_of(metric, (one for _, one in self.recent)),
            "no_change": self.no_change.score(metric),
            "majority": self.majority.score(metric),
        }

    def _count(self, said: Said, sign: int) -> None:
        for sums, one in zip((self.served, self.no_change, self.majority), said, strict=True):
            sums.add(self.metric, one, sign)


def share(metric: str, label: Scalar | None, baselines: Baselines) -> float | None:
    """The share of a class among the labels so far: what the majority gives as the probability that a metric needs."""
    of = {"log_loss": label, "roc_auc": True}.get(metric)
    if of is None or not baselines.n:
        return None
    return next((n for known, n in baselines.classes if known == of), 0) / baselines.n


def baselines_said(
    metric: str, label: Scalar, no_change: Scalar, majority: Scalar, chance: float | None
) -> tuple[Heard, Heard]:
    """No change, which is sure of itself, and the majority with its share as the probability."""
    most = heard(metric, label, majority, None)
    return heard(metric, label, no_change, None), most if chance is None else most._replace(chance=chance)
