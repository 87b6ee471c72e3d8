"""Scores of the served predictions and the baselines by the metric that the loop's spec names."""

from __future__ import annotations

from dataclasses import dataclass, field

from everloop_metrics import (
    MetricInput,
    MetricSums,
    brier_loss,
    class_name,
    metric_input,
    probability_of,
    score_of,
)
from everloop_monitoring.domain.scores import Baselines, append_recent
from everloop_schemas.envelope import Scalar

ERROR_METRICS = ("accuracy", "mae")
"""Metrics that follow from the error sums of every loop; `MetricScores` keeps what the other metrics need."""
MetricInputs = tuple[MetricInput, MetricInput, MetricInput]
"""An outcome with the served prediction, the no-change prediction and the majority prediction."""


@dataclass(slots=True)
class MetricScores:
    """Sums of one metric over all outcomes since offset `since`, and the last `ROLLING_OUTCOMES` ones.

    `recent` are those of the served predictions, `recent_baselines` those of no change and majority.
    """

    metric: str = ""
    served: MetricSums = field(default_factory=MetricSums)
    no_change: MetricSums = field(default_factory=MetricSums)
    majority: MetricSums = field(default_factory=MetricSums)
    recent: list[tuple[int, MetricInput]] = field(default_factory=list)
    recent_baselines: list[tuple[int, MetricInput, MetricInput]] = field(default_factory=list)
    since: int = -1

    def add(self, metric: str, offset: int, inputs: MetricInputs | None) -> None:
        """Add the outcome at an offset; `inputs` is None where the metric follows from the error sums."""
        if inputs is None:
            return
        if metric != self.metric:
            self.metric, self.since, self.recent, self.recent_baselines = metric, offset, [], []
            self.served, self.no_change, self.majority = MetricSums(), MetricSums(), MetricSums()
        append_recent(self.recent, (offset, inputs[0]))
        append_recent(self.recent_baselines, (offset, inputs[1], inputs[2]))
        self._count(inputs, 1)

    def correct(self, offset: int, before: MetricInputs | None, now: MetricInputs | None) -> None:
        """Replace an outcome by its correction, unless it is older than the metric."""
        if not self.metric or offset < self.since:
            return
        for inputs, sign in ((before, -1), (now, 1)):
            if inputs is not None:
                self._count(inputs, sign)
        self.recent = [(at, now[0] if now and at == offset else one) for at, one in self.recent if now or at != offset]
        self.recent_baselines = [
            (at, now[1], now[2]) if now and at == offset else (at, one, other)
            for at, one, other in self.recent_baselines
            if now or at != offset
        ]

    def scores(self, metric: str) -> dict[str, float | None]:
        """Whole-log scores and the rolling one; None where the metric is undefined, or is not the one counted."""
        if metric != self.metric:
            return dict.fromkeys(("served", "rolling", "no_change", "majority"))
        return {
            "served": self.served.score(metric),
            "rolling": score_of(metric, (one for _, one in self.recent)),
            "no_change": self.no_change.score(metric),
            "majority": self.majority.score(metric),
        }

    def rolling_scores(self) -> tuple[float | None, float | None, float | None]:
        """Scores over the last `ROLLING_OUTCOMES`, of what was served, no change and majority."""
        of = self.metric
        return (
            score_of(of, (one for _, one in self.recent)),
            score_of(of, (one for _, one, _ in self.recent_baselines)),
            score_of(of, (one for _, _, one in self.recent_baselines)),
        )

    def _count(self, inputs: MetricInputs, sign: int) -> None:
        for sums, one in zip((self.served, self.no_change, self.majority), inputs, strict=True):
            sums.add(self.metric, one, sign)


def majority_chance(metric: str, label: Scalar | None, majority: Scalar, baselines: Baselines) -> float | None:
    """What a metric takes from the probabilities of the majority baseline: each class's share of the labels so far."""
    if not baselines.n or label is None:
        return None
    if metric == "brier":
        return brier_loss(label, {class_name(name): n / baselines.n for name, n in baselines.classes.items()})
    of = probability_of(metric, label, majority)
    return None if of is None else baselines.classes.get(of, 0) / baselines.n


def baseline_inputs(
    metric: str, label: Scalar, no_change: Scalar, majority: Scalar, probability: float | None
) -> tuple[MetricInput, MetricInput]:
    """The no-change prediction, which is certain, and the majority prediction with its probability."""
    most = metric_input(metric, label, majority, None)
    return metric_input(metric, label, no_change, None), most if probability is None else most._replace(
        probability=probability
    )
