"""Watches a loop's features, predictions and labels for drift, before labels come and without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import ClassVar, Self

from everloop_learning.version import line_of
from everloop_learning.watched_features import watched_features
from everloop_monitoring.domain.data_drift.columns import Column
from everloop_monitoring.domain.data_drift.comparison import Change, Mark
from everloop_monitoring.domain.data_drift.events import build_data_drift
from everloop_monitoring.domain.data_drift.seen import SeenIds
from everloop_monitoring.domain.data_drift.track import Track
from everloop_monitoring.domain.data_drift.volume import Volume
from everloop_monitoring.domain.watch import WatchedOutcome
from everloop_schemas.envelope import Event, Scalar
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.loop import LoopSpec
from everloop_schemas.monitoring import DriftDetected
from everloop_schemas.serving import PredictionMade, PredictionMadeData

MAX_DRIFTS = 20
LATE = timedelta(minutes=1)
PREDICTION_KEY, LABEL_KEY = "<prediction>", "<label>"
"""No feature can have such a name."""


@dataclass
class DriftWatch:
    """Compares features and predictions by `inputs`, in the order in which they arrive, and labels by `labels`.

    `features` are the watched ones, `slices` those that divide a drift, `is_class` says whether predictions and labels
    are classes. `offset` is that of the last outcome, and `outcomes` their number since the watch is on. `newest` is
    when the newest prediction was made: what is much older comes `late`, is counted, and is not compared. `drifts` are
    the last ones that were reported.
    """

    kind: ClassVar[str] = "drift"
    features: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()
    is_class: bool = True
    inputs: Track = field(default_factory=Track)
    labels: Track = field(default_factory=Track)
    seen: SeenIds = field(default_factory=SeenIds)
    offset: int = -1
    outcomes: int = 0
    volume: Volume = field(default_factory=Volume)
    newest: datetime | None = None
    late: int = 0
    drifts: list[DriftDetected] = field(default_factory=list)

    @classmethod
    def is_on(cls, spec: LoopSpec) -> bool:
        """Whether the spec names features to watch, or all."""
        return spec.monitor.drift != "none"

    def follow(self, spec: LoopSpec) -> Self:
        """Itself, or a watch that compares anew what the spec divides or names otherwise."""
        features, slices, is_class = watched_features(spec), spec.monitor.slices, spec.task != "regression"
        if (features, slices, is_class) == (self.features, self.slices, self.is_class):
            return self
        keeps_labels = (slices, is_class) == (self.slices, self.is_class)
        labels = self.labels if keeps_labels else Track(slices=slices)
        inputs = Track(slices=slices)
        return replace(self, features=features, slices=slices, is_class=is_class, inputs=inputs, labels=labels)

    def add_prediction(self, event: PredictionMade, now: datetime) -> Sequence[Event]:
        """Add a prediction once; the drift of the data or the predictions that it shows."""
        if self._is_late(event.time, now) or not self.seen.add(event.subject):
            return ()
        self.volume.add(event.time)
        mark, track = Mark(event.time, self.offset, self.outcomes), self.inputs
        if event.data.role != "canary":
            track.follow(event.data.version, mark, self._input_columns)
        values = {**event.data.features, PREDICTION_KEY: _champions_prediction(event.data, track.version)}
        return self._report(track.add(values, mark, self._input_columns), event, track.version, now)

    def _is_late(self, time: datetime, now: datetime) -> bool:
        """Whether other partitions are far ahead, as while a backlog is read: the past would follow the present."""
        if self.newest is None or time > self.newest:
            self.newest = min(time, now)
        is_late = self.newest - time > LATE
        self.late += is_late
        return is_late

    def add_outcome(self, outcome: WatchedOutcome, now: datetime) -> Sequence[Event]:
        """Add the label of an outcome, once; the drift of the labels that it shows. Corrections change nothing."""
        if outcome.before is not None:
            return ()
        event, track = outcome.event, self.labels
        mark = Mark(event.time, self.offset, self.outcomes)
        self.offset, self.outcomes = max(self.offset, outcome.offset), self.outcomes + 1
        if event.data.role != "canary":
            track.follow(event.data.version, mark, self._label_columns)
        if outcome.now.label is None:
            return ()
        values = {**(event.data.features if self.slices else {}), LABEL_KEY: outcome.now.label}
        changes = track.add(values, mark, self._label_columns)
        return self._report(changes, event, track.version, now)

    def _report(
        self, changes: Sequence[Change], cause: PredictionMade | OutcomeObserved, version: str, now: datetime
    ) -> Sequence[Event]:
        if not changes:
            return ()
        drift = build_data_drift(changes, cause, Mark(now, self.offset, self.outcomes), version, now)
        self.drifts = [*self.drifts, drift][-MAX_DRIFTS:]
        return (drift,)

    def _input_columns(self) -> list[Column]:
        features = [Column(name, "feature", name) for name in self.features]
        return [*features, Column("prediction", "prediction", PREDICTION_KEY, self.is_class)]

    def _label_columns(self) -> list[Column]:
        return [Column("label", "label", LABEL_KEY, self.is_class)]


def _champions_prediction(data: PredictionMadeData, champion: str) -> Scalar:
    """What the champion predicted, also where a canary was served: then as a shadow."""
    if data.role == "canary":
        line = line_of(champion)
        return next((s.prediction for s in data.shadows if line_of(s.version) == line), data.prediction)
    return data.prediction
