"""The demo's timeline: a fold of the events, which any Kafka consumer could read."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from datetime import datetime

from everloop_schemas.envelope import Event, Scalar
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.monitoring import DriftDetected
from everloop_schemas.registry import (
    BASELINE,
    GateDecided,
    LoopState,
    ModelPromoted,
    ModelRefreshed,
    ModelRolledBack,
    RolloutChanged,
)
from everloop_schemas.training import RunFinished, RunRequested

ROLLING_OUTCOMES = 200
POINT_EVERY_OUTCOMES = 20


@dataclass(frozen=True)
class Moment:
    """One line of the timeline: when (wall clock, and how many outcomes there were), what, and why."""

    time: datetime
    outcomes: int
    what: str
    why: str
    style: str = ""


@dataclass
class Recovery:
    """The recovery from the drift: the first moment of each step after the onset, None until it happened."""

    onset: Moment | None = None
    detected: Moment | None = None
    trained: Moment | None = None
    champion: Moment | None = None
    run: str | None = None
    accuracy_before: float = 0.0
    accuracy_bottom: float = 1.0


class Story:
    """Follows one binary loop. Feed it events in the order they are read; `onset_id` is the first drifted row."""

    def __init__(self, onset_id: str) -> None:
        self._onset_id = onset_id
        self.outcomes: int = 0
        self.timeline: list[Moment] = []
        self.recovery: Recovery = Recovery()
        self.state: LoopState | None = None
        self.refreshes: int = 0
        self.promotions: list[str] = []
        self.points: list[tuple[int, float, float, float]] = []
        self.traffic: deque[str] = deque(maxlen=100)
        self._hits = {name: deque[bool](maxlen=ROLLING_OUTCOMES) for name in ("served", "no_change", "majority")}
        self._last_label: Scalar = False
        self._labels: Counter[Scalar] = Counter({False: 0})
        self._runs: dict[str, RunRequested] = {}
        self._trained: dict[str, RunFinished] = {}

    def rolling(self, name: str = "served") -> float:
        """Accuracy over the last 200 outcomes: of what was served, or of a baseline."""
        hits = self._hits[name]
        return sum(hits) / len(hits) if hits else 0.0

    def on(self, event: Event) -> None:
        """Add one event."""
        match event:
            case OutcomeObserved() if event.data.correction == 0 and event.data.label is not None:
                self._on_outcome(event, event.data.label)
            case LoopState():
                self.state = event
            case ModelRefreshed():
                self.refreshes += 1
            case RunRequested():
                self._runs[event.data.run] = event
                self._add(event, f"run {event.data.trigger}", f"{event.data.reason}; line {event.data.line}", "cyan")
                self._connect()
            case RunFinished() if event.data.state == "trained":
                self._trained[event.data.run] = event
                self._connect()
            case DriftDetected() if event.data.is_served_error_drift:
                self._on_drift(event)
            case DriftDetected():
                found = event.data
                self._add(event, f"{found.kind} drift detected", f"{found.subject} ({found.detector})", "yellow")
            case GateDecided() if event.data.passed:
                d = event.data
                evidence = f"log e {d.log_e:.1f} >= {d.log_threshold:.1f}, {d.outcomes} pairs"
                why = f"{d.line} beats {d.champion_line}: {evidence}"
                self._add(event, "gate passed", why, "green")
            case RolloutChanged():
                share = f" {event.data.share:.0%}" if event.data.stage == "canary" else ""
                self._add(event, f"{event.data.stage}{share}", event.data.reason, "yellow")
            case ModelPromoted():
                self._on_promoted(event)
            case ModelRolledBack():
                self._add(event, "rolled back", f"{event.data.rolled_back}: {event.data.reason}", "red")

    def share_of(self, version: str) -> float:
        """The share of the last 100 outcomes that this version served."""
        return self.traffic.count(version) / len(self.traffic) if self.traffic else 0.0

    @property
    def closed(self) -> bool:
        """Whether the loop has closed: the run that the drift caused became champion."""
        return self.recovery.champion is not None

    _drift_id: str | None = None

    def _on_outcome(self, event: OutcomeObserved, label: Scalar) -> None:
        if event.subject == self._onset_id:
            self.recovery.accuracy_before = self.rolling()
            why = "from this row on every label is inverted"
            self.recovery.onset = self._add(event, "drift injected", why, "bold magenta")
        majority = self._labels.most_common(1)[0][0]
        self._hits["served"].append(event.data.prediction == label)
        self._hits["no_change"].append(self._last_label == label)
        self._hits["majority"].append(majority == label)
        self._last_label = label
        self._labels[label] += 1
        self.outcomes += 1
        self.traffic.append(event.data.version)
        if self.recovery.onset:
            self.recovery.accuracy_bottom = min(self.recovery.accuracy_bottom, self.rolling())
        if self.outcomes % POINT_EVERY_OUTCOMES == 0:
            self.points.append((self.outcomes, self.rolling(), self.rolling("no_change"), self.rolling("majority")))

    def _on_drift(self, event: DriftDetected) -> None:
        d = event.data
        why = (
            f"error {d.error_before:.0%} -> {d.error_after:.0%} since {d.outcomes_since_change} outcomes ({d.detector})"
        )
        moment = self._add(event, "drift detected", why, "bold red")
        if self.recovery.onset and self.recovery.detected is None:
            self.recovery.detected, self._drift_id = moment, event.id
            self._connect()

    def _connect(self) -> None:
        """Link alarm, run and end of the run: they are on three topics, and arrive in any order."""
        steps = self.recovery
        if steps.detected and steps.run is None:
            steps.run = next((run for run, asked in self._runs.items() if asked.causationid == self._drift_id), None)
        if steps.run and steps.trained is None and (done := self._trained.get(steps.run)):
            why = f"line {done.data.line} has caught up and challenges"
            steps.trained = self._add(done, "trained", why, "cyan")

    def _on_promoted(self, event: ModelPromoted) -> None:
        d = event.data
        replaced = "version 0, the majority class" if d.previous == BASELINE else d.previous
        moment = self._add(event, "champion", f"{d.version} replaces {replaced}: {d.reason}", "bold green")
        self.promotions.append(d.version)
        if self.recovery.run and event.correlationid == self.recovery.run and self.recovery.champion is None:
            self.recovery.champion = moment

    def _add(self, event: Event, what: str, why: str, style: str) -> Moment:
        moment = Moment(event.time, self.outcomes, what, why, style)
        self.timeline.append(moment)
        return moment


def missing_steps(story: Story, tolerance: float = 0.05) -> list[str]:
    """The steps of a finished demo that did not happen; empty when the loop closed.

    The accuracy must come back to within `tolerance` of what it was before the drift.
    """
    steps = story.recovery
    missing = [
        what
        for what, moment in [
            ("the drift was not detected", steps.detected),
            ("no fresh line was trained because of it", steps.trained),
            ("the fresh line did not become champion", steps.champion),
        ]
        if moment is None
    ]
    if story.rolling() < steps.accuracy_before - tolerance:
        missing.append(f"the accuracy did not come back: {steps.accuracy_before:.1%} -> {story.rolling():.1%}")
    return missing
