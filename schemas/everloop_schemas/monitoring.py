"""The events that monitoring publishes: drifts, evaluations and alerts."""

from __future__ import annotations

from typing import ClassVar, Literal

from everloop_schemas.envelope import DAY_MS, FOREVER, ControlData, ControlEvent, Topic, derived_id

DriftKind = Literal["concept", "data", "prediction", "label"]
"""Which distribution has changed: labels given the features, features, predictions, or labels."""
SERVED_ERROR = "served_error"
"""The subject of a concept drift that shows in the error of the served predictions."""


class DriftDetectedData(ControlData):
    """A change of the data or the concept. Offsets are of the loop's outcome log.

    `kind` says which distribution has changed, and `subject` what shows it: the served error, or the name of a
    feature. `offset` is the outcome that raised the alarm, `change_point` the most likely first outcome of the new
    concept; `error_before` and `error_after` are the mean losses on either side of it.
    """

    kind: DriftKind = "concept"
    subject: str = SERVED_ERROR
    detector: Literal["hddm_w", "adwin"]
    offset: int
    change_point: int
    outcomes: int
    outcomes_since_change: int
    error_before: float
    error_after: float
    version: str

    @property
    def is_served_error_drift(self) -> bool:
        """Whether this drift makes predictions worse: only then a run is requested and the gate's test restarts."""
        return self.kind == "concept" and self.subject == SERVED_ERROR


class DriftDetected(ControlEvent):
    """One drift, one alert; `subject` is the version that was serving."""

    topic: ClassVar[Topic] = Topic(
        "monitoring.drift_detected.v1", owner="monitoring", keyed_by="loop", retention_ms=30 * DAY_MS
    )
    type: Literal["monitoring.drift_detected.v1"] = "monitoring.drift_detected.v1"
    source: str = "everloop/monitoring"
    data: DriftDetectedData


def drift_id(loop: str, kind: DriftKind, subject: str, offset: int) -> str:
    """The id of a drift: one for each kind and subject at an offset of the outcome log.

    For a drift of the served error, the id is derived from the offset alone, as it was when there was no other kind:
    when monitoring is rebuilt from its logs, it publishes the same ids again, and training starts no second run.
    """
    distinction = () if (kind, subject) == ("concept", SERVED_ERROR) else (kind, subject)
    return derived_id(loop, DriftDetected.type_name(), *distinction, offset)


class Scores(ControlData):
    """Prequential scores of the served predictions and of the baselines, by the metric of the loop's spec.

    A score in `undefined` has no value and is 0, as an F1 without a positive label, or a ROC AUC of one class.
    """

    metric: str
    served: float
    rolling: float
    no_change: float
    majority: float
    undefined: tuple[str, ...] = ()


class EvaluationUpdatedData(ControlData):
    """Losses, each in [0, 1], of every line that predicted the outcomes at `offsets`, served or in shadow.

    `losses[line][i]` belongs to `offsets[i]`, None where no version of the line predicted that one; `served[i]` is the
    version that was served. Events of earlier releases name versions in place of lines. `outcomes` counts the loop's
    outcomes up to the last offset.
    """

    offsets: tuple[int, ...]
    served: tuple[str, ...]
    losses: dict[str, tuple[float | None, ...]]
    outcomes: int
    scores: Scores


class EvaluationUpdated(ControlEvent):
    """Scores of a loop, and the losses of the served versions and their shadows on a range of outcomes."""

    topic: ClassVar[Topic] = Topic(
        "monitoring.evaluation_updated.v1", owner="monitoring", keyed_by="loop", retention_ms=30 * DAY_MS
    )
    type: Literal["monitoring.evaluation_updated.v1"] = "monitoring.evaluation_updated.v1"
    source: str = "everloop/monitoring"
    data: EvaluationUpdatedData


class AlertRaisedData(ControlData):
    """An alert for the operators, with its message in one sentence."""

    kind: Literal["drift", "rollback", "corrections", "dead_letter", "line_failed", "artifact"]
    severity: Literal["info", "warning", "critical"]
    message: str


class AlertRaised(ControlEvent):
    """An alert; `causationid` is the event that raised it."""

    topic: ClassVar[Topic] = Topic(
        "monitoring.alert_raised.v1", owner="monitoring", keyed_by="loop", retention_ms=FOREVER
    )
    type: Literal["monitoring.alert_raised.v1"] = "monitoring.alert_raised.v1"
    source: str = "everloop/monitoring"
    data: AlertRaisedData
