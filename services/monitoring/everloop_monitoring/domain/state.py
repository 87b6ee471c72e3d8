"""The evaluation state of a loop: everything that the next outcome needs of the outcomes before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import fsum
from typing import NamedTuple

from everloop_learning.class_costs import ClassCosts
from everloop_learning.feedback_share import FeedbackShare
from everloop_learning.losses import Losses, ServedErrors, prediction_error
from everloop_learning.rank_blocks import RANKS, RankBlocks, rank_score
from everloop_learning.version import line_of
from everloop_monitoring.domain.contradictions import Contradictions
from everloop_monitoring.domain.drift import Alarm, DriftDetector, ErrorThreshold
from everloop_monitoring.domain.metric_scores import MetricScores
from everloop_monitoring.domain.scores import ROLLING_OUTCOMES, Baselines, ComparedErrors, ErrorSums, append_recent
from everloop_schemas.envelope import Scalar
from everloop_schemas.feature import OutcomeObservedData
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import BASELINE
from everloop_schemas.training import RankedBlock
from everloop_shared.arithmetic import Spread

NO_ERRORS = ErrorSums()


class CountedOutcome(NamedTuple):
    """An outcome as it was counted, so that a correction can subtract it: its label and the baselines' predictions.

    `chance` is the majority's probability that the loop's metric needs.
    """

    offset: int
    label: Scalar | None
    correction: int
    no_change: Scalar
    majority: Scalar
    chance: float | None = None


class VersionPrediction(NamedTuple):
    """The prediction of one version, served or in shadow."""

    version: str
    prediction: Scalar
    probabilities: Mapping[str, float] | None


def predictions_of(outcome: OutcomeObservedData) -> list[VersionPrediction]:
    """The served prediction, then those of the shadows."""
    served = VersionPrediction(outcome.version, outcome.prediction, outcome.probabilities)
    shadows = (s for s in outcome.shadows if s.version != outcome.version)
    return [served, *(VersionPrediction(s.version, s.prediction, s.probabilities) for s in shadows)]


@dataclass(slots=True)
class EvaluationState:
    """The evaluation of one loop after its latest outcome.

    `outcomes` counts distinct predictions with an outcome, `scored` those whose label is known. `recent` holds
    the last `ROLLING_OUTCOMES` scored outcomes, `by_line` the last errors of each line that predicted lately.
    `spread` and `served_errors` are the scales of a regression's losses, and `costs` what mistakes cost by a metric of
    classes, all the same as training's; so are the blocks of `ranks`, for a metric of ranks. `measure` is what the
    loop's metric needs.
    """

    outcomes: int = 0
    scored: int = 0
    sums: ErrorSums = NO_ERRORS
    baselines: Baselines = field(default_factory=Baselines)
    recent: list[tuple[int, ComparedErrors]] = field(default_factory=list)
    by_line: dict[str, tuple[int, list[float]]] = field(default_factory=dict)
    drift_detector: DriftDetector = field(default_factory=DriftDetector)
    error_threshold: ErrorThreshold = field(default_factory=ErrorThreshold)
    spread: Spread = field(default_factory=Spread)
    costs: ClassCosts = field(default_factory=ClassCosts)
    served_errors: ServedErrors = field(default_factory=ServedErrors)
    ranks: RankBlocks = field(default_factory=RankBlocks)
    sources: FeedbackShare = field(default_factory=FeedbackShare)
    contradictions: Contradictions = field(default_factory=Contradictions)
    measure: MetricScores = field(default_factory=MetricScores)

    def rolling_scores(self, is_regression: bool) -> ComparedErrors:
        """Scores over the last `ROLLING_OUTCOMES` outcomes."""
        if not self.recent:
            return ComparedErrors()
        sides = zip(*(errors for _, errors in self.recent), strict=True)
        return ComparedErrors(*(fsum(side) / len(self.recent) for side in sides)).as_scores(is_regression)

    def record_losses(self, spec: LoopSpec, outcome: OutcomeObservedData, label: Scalar) -> dict[str, float]:
        """The loss of each line on an outcome, in [0, 1] as in training; its error joins the line's last ones, and the
        label the scale of later losses.

        Where two versions of a line predicted, the first counts, which is the served one.
        """
        of_loop, losses = Losses(spec, self.spread, self.costs, self.served_errors), dict[str, float]()
        for version, prediction, probabilities in predictions_of(outcome):
            if (line := line_of(version)) in losses:
                continue
            losses[line] = of_loop.loss(label, prediction, probabilities)
            error = prediction_error(of_loop.regression, prediction, label)
            recent = self.by_line.get(line, (0, list[float]()))[1]
            append_recent(recent, error)
            self.by_line[line] = (self.outcomes, recent)
        for line, (last, _) in list(self.by_line.items()):
            if last < self.outcomes - ROLLING_OUTCOMES:
                del self.by_line[line]
        of_loop.learn(label, outcome.prediction)
        return losses

    def rank(self, spec: LoopSpec, outcome: OutcomeObservedData, offset: int, label: Scalar) -> RankedBlock | None:
        """The block of outcomes that ends with this one, if one does, where the spec's metric is one of ranks."""
        if spec.metric not in RANKS:
            if self.ranks.metric:
                self.ranks.clear()
            return None
        scores = dict[str, float]()
        for version, prediction, probabilities in predictions_of(outcome):
            line = line_of(version)
            scores.setdefault(line, rank_score(line, prediction, probabilities))
        return self.ranks.add(spec.metric, offset, label, scores)

    def detect_drift(self, is_regression: bool, version: str, offset: int, error: float) -> Alarm | None:
        """Pass the served error to the drift detector, unless the baseline served: it has no concept to drift."""
        if version == BASELINE or (is_regression and self.error_threshold.is_obsolete):
            self.drift_detector.reset()
            self.error_threshold = ErrorThreshold()
        if version == BASELINE:
            return None
        if not is_regression:
            return self.drift_detector.add(offset, int(error))
        is_above = self.error_threshold.classify(error)
        alarm = None if is_above is None else self.drift_detector.add(offset, is_above)
        if alarm:
            self.error_threshold = ErrorThreshold()
        return alarm
