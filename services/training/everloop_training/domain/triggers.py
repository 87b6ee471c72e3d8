"""What starts a fresh line, counted as a pure function of the outcome log."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf

from everloop_metrics import ERRORS, MetricInput, metric_input, score_of
from everloop_schemas.cron import Cron
from everloop_schemas.loop import LoopSpec
from everloop_schemas.training import Trigger
from everloop_training.domain.outcome import Outcome

WINDOW = 500
LOOK_EVERY = 25
"""The metric is looked at whenever so many labels more have come: it is counted over the whole window."""


@dataclass(frozen=True)
class Cause:
    """Why a run is due: its trigger, the key that makes the same cause the same run, and a sentence."""

    trigger: Trigger
    key: str
    reason: str


@dataclass
class Triggers:
    """Counters since the last run that was not an initial one, and the schedule's next time."""

    labels: int = 0
    feedback: int = 0
    outcomes_at_run: int | None = None
    served: deque[MetricInput] = field(default_factory=lambda: deque(maxlen=WINDOW))
    metric: str = ""
    next_fire: float | None = None

    def started(self, outcomes: int) -> None:
        """A run has started after so many outcomes of the loop: count from here."""
        self.labels = self.feedback = 0
        self.outcomes_at_run = outcomes
        self.served.clear()

    def cooling(self, outcomes: int, cooldown: int) -> bool:
        """Whether the last run is too near. Of two causes the one that was requested first stands."""
        return self.outcomes_at_run is not None and outcomes - self.outcomes_at_run < cooldown

    def count(self, spec: LoopSpec, outcome: Outcome, learned: bool) -> None:
        """Take in one record of the outcome log; what was served is judged where its label was learned."""
        self.feedback += outcome.feedback
        if not learned or outcome.label is None:
            return
        self.labels += 1
        if self.metric != spec.metric:  # what was kept of an outcome is for one metric only
            self.metric = spec.metric
            self.served.clear()
        if spec.retrain.below is not None:
            self.served.append(metric_input(spec.metric, outcome.label, outcome.prediction, outcome.probabilities))

    def due(self, spec: LoopSpec, outcome: Outcome, outcomes: int) -> Cause | None:
        """The cause that is due after this outcome, if any."""
        fired = self._fired(spec, outcome)
        retrain = spec.retrain
        if self.cooling(outcomes, retrain.cooldown):
            return None
        if retrain.on_feedback and self.feedback >= retrain.on_feedback:
            said = f"{self.feedback} feedback events since the last run"
            return Cause("feedback", f"feedback/{outcome.offset}", said)
        if fired is not None:
            return Cause("schedule", f"schedule/{int(fired)}", f"schedule {retrain.on_schedule}")
        if retrain.on_labels and self.labels >= retrain.on_labels:
            return Cause("labels", f"labels/{outcome.offset}", f"{self.labels} labels since the last run")
        return self._below(spec, outcome)

    def _fired(self, spec: LoopSpec, outcome: Outcome) -> float | None:
        if not spec.retrain.on_schedule:
            self.next_fire = None
            return None
        due = self.next_fire
        if due is not None and outcome.time < due:
            return None
        upcoming = Cron(spec.retrain.on_schedule).next(outcome.time)
        self.next_fire = inf if upcoming is None else upcoming
        return due

    def _below(self, spec: LoopSpec, outcome: Outcome) -> Cause | None:
        """Whether what was served is worse than the floor: above it where less is better, else below it.

        An undefined metric is no evidence: without a positive label, say, nobody knows how well they are found.
        """
        floor, metric = spec.retrain.below, spec.metric
        if floor is None or len(self.served) < WINDOW or self.labels % LOOK_EVERY:
            return None
        score, less = score_of(metric, self.served), metric in ERRORS
        if score is None or (score <= floor if less else score >= floor):
            return None
        seen = f"{metric} {score:.4g}, above" if less else f"{metric} {score:.3f}, below"
        said = f"the last {WINDOW} outcomes were served with {seen} {floor}"
        return Cause("metric", f"metric/{outcome.offset}", said)
