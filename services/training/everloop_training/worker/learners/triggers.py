"""What starts a fresh line, counted as a pure function of the outcome log."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf

from everloop_learning.outcome import Outcome
from everloop_metrics import ERRORS, MetricInput, metric_input, score_of
from everloop_schemas.cron import Cron
from everloop_schemas.loop import LoopSpec
from everloop_schemas.training import Trigger

WINDOW_OUTCOMES = 500
"""Outcomes over which the served metric is computed, and how far back a run without a change point starts."""
METRIC_EVERY_LABELS = 25
"""The labels between two computations of the served metric, because each costs a pass over the whole window."""


@dataclass(frozen=True)
class DueRun:
    """A run that has to start: its trigger, its key (the same key is the same run), and the reason in words."""

    trigger: Trigger
    key: str
    reason: str


@dataclass
class RunTriggers:
    """Counts labels and feedback since the last run that was not an initial one, and knows the schedule's next time."""

    labels: int = 0
    feedback: int = 0
    outcomes_at_run: int | None = None
    served: deque[MetricInput] = field(default_factory=lambda: deque(maxlen=WINDOW_OUTCOMES))
    metric: str = ""
    next_fire: float | None = None

    def restart_counts(self, outcomes: int) -> None:
        """Restart the counts: a run has started after this many outcomes of the loop."""
        self.labels = self.feedback = 0
        self.outcomes_at_run = outcomes
        self.served.clear()

    def is_cooling_down(self, outcomes: int, cooldown: int) -> bool:
        """Whether the last run started less than `cooldown` outcomes ago."""
        return self.outcomes_at_run is not None and outcomes - self.outcomes_at_run < cooldown

    def count(self, spec: LoopSpec, outcome: Outcome, learned: bool) -> None:
        """Count one record of the outcome log; what was served enters the metric where its label was learned."""
        self.feedback += outcome.feedback
        if not learned or outcome.label is None:
            return
        self.labels += 1
        if self.metric != spec.metric:  # what is kept of an outcome depends on the metric
            self.metric = spec.metric
            self.served.clear()
        if spec.retrain.below is not None:
            self.served.append(metric_input(spec.metric, outcome.label, outcome.prediction, outcome.probabilities))

    def find_due(self, spec: LoopSpec, outcome: Outcome, outcomes: int) -> DueRun | None:
        """The run that is due after this outcome, if any."""
        fired_at = self._fire_schedule(spec, outcome)
        retrain = spec.retrain
        if self.is_cooling_down(outcomes, retrain.cooldown):
            return None
        if retrain.on_feedback and self.feedback >= retrain.on_feedback:
            reason = f"{self.feedback} feedback events since the last run"
            return DueRun("feedback", f"feedback/{outcome.offset}", reason)
        if fired_at is not None:
            return DueRun("schedule", f"schedule/{int(fired_at)}", f"schedule {retrain.on_schedule}")
        if retrain.on_labels and self.labels >= retrain.on_labels:
            return DueRun("labels", f"labels/{outcome.offset}", f"{self.labels} labels since the last run")
        return self._find_below_floor(spec, outcome)

    def _fire_schedule(self, spec: LoopSpec, outcome: Outcome) -> float | None:
        """The time of the schedule that this outcome has reached, if any, in seconds since the epoch."""
        if not spec.retrain.on_schedule:
            self.next_fire = None
            return None
        due_at = self.next_fire
        if due_at is not None and outcome.time < due_at:
            return None
        upcoming = Cron(spec.retrain.on_schedule).next(outcome.time)
        self.next_fire = inf if upcoming is None else upcoming
        return due_at

    def _find_below_floor(self, spec: LoopSpec, outcome: Outcome) -> DueRun | None:
        """A run where the served metric is worse than `retrain.below`: above it for errors, else below it.

        An undefined metric starts nothing: it is no evidence. F1, for example, is undefined without positive labels.
        """
        floor, metric = spec.retrain.below, spec.metric
        if floor is None or len(self.served) < WINDOW_OUTCOMES or self.labels % METRIC_EVERY_LABELS:
            return None
        score, is_error = score_of(metric, self.served), metric in ERRORS
        if score is None or (score <= floor if is_error else score >= floor):
            return None
        comparison = f"{metric} {score:.4g}, above" if is_error else f"{metric} {score:.3f}, below"
        reason = f"the last {WINDOW_OUTCOMES} outcomes were served with {comparison} {floor}"
        return DueRun("metric", f"metric/{outcome.offset}", reason)
