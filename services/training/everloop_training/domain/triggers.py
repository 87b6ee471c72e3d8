"""What starts a fresh line, counted as a pure function of the outcome log."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf

from everloop_schemas.cron import Cron
from everloop_schemas.loop import LoopSpec
from everloop_schemas.training import Trigger
from everloop_training.domain.outcome import Outcome

WINDOW = 500


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
    served: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    next_fire: float | None = None

    def started(self, outcomes: int) -> None:
        """A run has started after so many outcomes of the loop: count from here."""
        self.labels = self.feedback = 0
        self.outcomes_at_run = outcomes
        self.served.clear()

    def cooling(self, outcomes: int, cooldown: int) -> bool:
        """Whether the last run is too near. Of two causes the one that was requested first stands."""
        return self.outcomes_at_run is not None and outcomes - self.outcomes_at_run < cooldown

    def count(self, outcome: Outcome, served_error: float | None) -> None:
        """Take in one record of the outcome log; `served_error` is that of what was served, None if not learnable."""
        self.feedback += outcome.feedback
        if served_error is not None:
            self.labels += 1
            self.served.append(served_error)

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
        floor, errors = spec.retrain.below, spec.task == "regression"
        if floor is None or len(self.served) < WINDOW or spec.metric in ("r2", "log_loss"):
            return None
        mean = sum(self.served) / WINDOW
        if mean <= floor if errors else 1.0 - mean >= floor:
            return None
        seen = f"mean absolute error {mean:.4g}, above" if errors else f"accuracy {1.0 - mean:.3f}, below"
        said = f"the last {WINDOW} outcomes were served with {seen} {floor}"
        return Cause("metric", f"metric/{outcome.offset}", said)
