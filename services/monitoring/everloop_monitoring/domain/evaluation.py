"""Adds a batch of one loop's outcomes to its evaluation: each prediction once, with the latest label that counts."""

from __future__ import annotations

from dataclasses import dataclass, field

from everloop_learning.losses import prediction_error
from everloop_learning.version import line_of
from everloop_metrics import metric_input
from everloop_monitoring.domain.drift import Alarm
from everloop_monitoring.domain.labels import LabelSelection
from everloop_monitoring.domain.metric_scores import ERROR_METRICS, MetricInputs, baseline_inputs, majority_chance
from everloop_monitoring.domain.scores import ComparedErrors, LineTally, append_recent
from everloop_monitoring.domain.state import CountedOutcome, EvaluationState, predictions_of
from everloop_schemas.envelope import Scalar
from everloop_schemas.feature import OutcomeObservedData
from everloop_schemas.loop import LoopSpec
from everloop_schemas.monitoring import SERVED_ERROR, DriftKind
from everloop_schemas.training import RankedBlock

CURVE_POINT_EVERY_OUTCOMES = 50


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One point of the curves: scores by a metric over the last `ROLLING_OUTCOMES` when the loop had `outcomes`.

    A baseline's score is 0 where it is undefined.
    """

    outcomes: int
    scores: ComparedErrors
    version: str
    metric: str


@dataclass(frozen=True, slots=True)
class DetectedDrift:
    """An alarm, with the version served on the outcome that raised it, and the loop's outcomes so far.

    `kind` and `subject` say what has changed, as in `DriftDetectedData`.
    """

    alarm: Alarm
    version: str
    outcomes: int
    kind: DriftKind = "concept"
    subject: str = SERVED_ERROR


@dataclass(slots=True)
class UnpublishedLosses:
    """Losses that no evaluation event carries yet: `losses[i]`, by line and in [0, 1], belongs to `offsets[i]`."""

    offsets: list[int] = field(default_factory=list)
    served: list[str] = field(default_factory=list)
    losses: list[dict[str, float]] = field(default_factory=list)
    blocks: list[RankedBlock] = field(default_factory=list)

    def append(self, offset: int, served: str, losses: dict[str, float], block: RankedBlock | None = None) -> None:
        """Add the losses on one outcome, the version that was served, and the block that ended with it, if one did."""
        self.offsets.append(offset)
        self.served.append(served)
        self.losses.append(losses)
        if block is not None:
            self.blocks.append(block)


@dataclass(slots=True)
class BatchEvaluation:
    """Adds a batch of one loop's outcomes to `state`, and holds what the batch adds to the tables.

    `counted` are the outcomes of the batch as they were counted before, by prediction id; it is updated. `tallies` are
    by line. `corrections_alert` is the message of the alert that the last outcome raised because contradictions are
    frequent.
    """

    spec: LoopSpec
    state: EvaluationState
    counted: dict[str, CountedOutcome] = field(default_factory=dict)
    tallies: dict[str, LineTally] = field(default_factory=dict)
    points: list[CurvePoint] = field(default_factory=list)
    unpublished: UnpublishedLosses = field(default_factory=UnpublishedLosses)
    corrections_alert: str | None = None

    @property
    def is_regression(self) -> bool:
        """Whether labels are numbers to come close to."""
        return self.spec.task == "regression"

    def take_unpublished(self) -> UnpublishedLosses:
        """The losses since the last call."""
        taken, self.unpublished = self.unpublished, UnpublishedLosses()
        return taken

    def add(self, outcome: OutcomeObservedData, offset: int) -> DetectedDrift | None:
        """Add the outcome at `offset`, a duplicate without effect; the drift if this outcome shows one."""
        before = self.counted.get(outcome.prediction_id)
        selection = LabelSelection(self.state.sources, self.state.contradictions)
        drift = None
        if before is None:
            drift = self._add_first(outcome, offset, selection.select_first(outcome))
        elif outcome.correction > before.correction:
            self._add_correction(outcome, before, selection.select_correction(outcome, before.label))
        self.corrections_alert = selection.alert
        return drift

    def _add_first(self, outcome: OutcomeObservedData, offset: int, label: Scalar | None) -> DetectedDrift | None:
        state, guess = self.state, self.spec.initial_prediction
        majority = state.baselines.majority(self.is_regression, guess)
        now = CountedOutcome(
            offset=offset,
            label=label,
            correction=outcome.correction,
            no_change=state.baselines.no_change(guess),
            majority=majority,
            chance=majority_chance(self.spec.metric, label, majority, state.baselines),
        )
        self.counted[outcome.prediction_id] = now
        state.outcomes += 1
        if label is None:
            return None
        state.contradictions.record_agreement()
        errors = self._count(outcome, now, 1)
        append_recent(state.recent, (offset, errors))
        state.measure.add(self.spec.metric, offset, self._metric_inputs(outcome, now))
        state.baselines.learn(self.is_regression, label, offset)
        losses, block = state.record_losses(self.spec, outcome, label), state.rank(self.spec, outcome, offset, label)
        self.unpublished.append(offset, outcome.version, losses, block)
        if state.scored % CURVE_POINT_EVERY_OUTCOMES == 0:
            self._add_point(outcome.version)
        alarm = state.detect_drift(self.is_regression, outcome.version, offset, errors.served)
        return DetectedDrift(alarm, outcome.version, state.outcomes) if alarm else None

    def _add_point(self, version: str) -> None:
        """Add a point to the curves, which have none where the metric of what was served is undefined."""
        metric, state = self.spec.metric, self.state
        if metric in ERROR_METRICS:
            scores = state.rolling_scores(self.is_regression)
        else:
            served, *baselines = state.measure.rolling_scores()
            if served is None:
                return
            scores = ComparedErrors(served, *(score or 0.0 for score in baselines))
        self.points.append(CurvePoint(state.outcomes, scores, version, metric))

    def _add_correction(self, outcome: OutcomeObservedData, before: CountedOutcome, label: Scalar | None) -> None:
        state, chance = self.state, before.chance
        if label != before.label:
            chance = majority_chance(self.spec.metric, label, before.majority, state.baselines)
        now = before._replace(label=label, correction=outcome.correction, chance=chance)
        self.counted[outcome.prediction_id] = now
        if before.label == now.label:
            return
        if before.label is not None:
            self._count(outcome, before, -1)
        errors = self._count(outcome, now, 1) if now.label is not None else None
        state.measure.correct(before.offset, self._metric_inputs(outcome, before), self._metric_inputs(outcome, now))
        state.baselines.correct(self.is_regression, before.label, now.label, before.offset)
        state.recent = [
            (at, errors if at == before.offset and errors else old)
            for at, old in state.recent
            if at != before.offset or errors
        ]

    def _count(self, outcome: OutcomeObservedData, counted: CountedOutcome, sign: int) -> ComparedErrors:
        """Add an outcome with `counted.label` to the sums, or with sign -1 subtract it."""
        assert counted.label is not None, "only labelled outcomes count"
        state, label = self.state, counted.label
        for version, prediction, _ in predictions_of(outcome):
            tally = self.tallies.setdefault(line_of(version), LineTally(version))
            error = prediction_error(self.is_regression, prediction, label)
            tally.add(version, error, version == outcome.version, sign)
        errors = ComparedErrors(
            served=prediction_error(self.is_regression, outcome.prediction, label),
            no_change=prediction_error(self.is_regression, counted.no_change, label),
            majority=prediction_error(self.is_regression, counted.majority, label),
        )
        state.scored += sign
        state.sums = state.sums.plus(errors, sign)
        return errors

    def _metric_inputs(self, outcome: OutcomeObservedData, counted: CountedOutcome) -> MetricInputs | None:
        metric, label = self.spec.metric, counted.label
        if label is None or metric in ERROR_METRICS:
            return None
        served = metric_input(metric, label, outcome.prediction, outcome.probabilities)
        return served, *baseline_inputs(metric, label, counted.no_change, counted.majority, counted.chance)
