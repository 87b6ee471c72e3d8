"""Scores of the served predictions and the baselines by the metric that the loop's spec names."""

from __future__ import annotations

from dataclasses import dataclass, field

from everloop_metrics import MetricInput, MetricSums, metric_input, score_of
from everloop_monitoring.domain.scores import Baselines, append_recent
from everloop_schemas.envelope import Scalar

ERROR_METRICS = ("accuracy", "mae")
"""Metrics that follow from the error sums of every loop; `MetricScores` keeps what the other metrics need."""
MetricInputs = tuple[MetricInput, MetricInput, MetricInput]
"""An outcome with the served prediction, the no-change prediction and the majority prediction."""


@dataclass(slots=True)
class MetricScores:
    """Sums of one metric over all outcomes since offset `since`, and the last `ROLLING_OUTCOMES` served ones."""

    metric: str = ""
    served: MetricSums = field(default_factory=MetricSums)
    no_change: MetricSums = field(default_factory=MetricSums)
    majority: MetricSums = field(default_factory=MetricSums)
    recent: list[tuple[int, MetricInput]] = field(default_factory=list)
    since: int = -1

    def add(self, metric: str, offset: int, inputs: MetricInputs | None) -> None:
        """Add the outcome at an offset; `inputs` is None where the metric follows from the error sums."""
        if inputs is None:
            return
        if metric != self.metric:
            self.metric, self.since, self.recent = metric, offset, []
            self.served, self.no_change, self.majority = MetricSums(), MetricSums(), MetricSums()
        append_recent(self.recent, (offset, inputs[0]))
        self._count(inputs, 1)

    def correct(self, offset: int, before: MetricInputs | None, now: MetricInputs | None) -> None:
        """Replace an outcome by its correction, unless it is older than the metric."""
        if not self.metric or offset < self.since:
            return
        for inputs, sign in ((before, -1), (now, 1)):
            if inputs is not None:
                self._count(inputs, sign)
        if now is None:
            self.recent = [(at, one) for at, one in self.recent if at != offset]
        else:
            self.recent = [(at, now[0] if at == offset else one) for at, one in self.recent]

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

    def _count(self, inputs: MetricInputs, sign: int) -> None:
        for sums, one in zip((self.served, self.no_change, self.majority), inputs, strict=True):
            sums.add(self.metric, one, sign)


def majority_probability(metric: str, label: Scalar | None, baselines: Baselines) -> float | None:
    """The probability that a metric needs of the majority baseline: the share of a class among the labels so far."""
    of = {"log_loss": label, "roc_auc": True}.get(metric)
    if of is None or not baselines.n:
        return None
    return baselines.classes.get(of, 0) / baselines.n


def baseline_inputs(
    metric: str, label: Scalar, no_change: Scalar, majority: Scalar, probability: float | None
) -> tuple[MetricInput, MetricInput]:
    """The no-change prediction, which is certain, and the majority prediction with its probability."""
    most = metric_input(metric, label, majority, None)
    return metric_input(metric, label, no_change, None), most if probability is None else most._replace(
        probability=probability
    )
