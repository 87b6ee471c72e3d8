"""The events that monitoring publishes: drifts, evaluations, alerts, and dead letters that were sent again."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import AwareDatetime

from everloop_schemas.envelope import DAY_MS, FOREVER, ControlData, ControlEvent, Topic, derived_id
from everloop_schemas.training import RankedBlock

DriftKind = Literal["concept", "data", "prediction", "label"]
"""Which distribution has changed: labels given the features, features, predictions, or labels."""
SERVED_ERROR = "served_error"
"""The subject of a concept drift that shows in the error of the served predictions."""


Detector = Literal["hddm_w", "adwin", "jensen_shannon", "wasserstein", "population_stability"]


class DriftedFeature(ControlData):
    """A feature, prediction or label whose distribution has changed: by how much, and since when.

    `distance` is that of `detector`'s statistic between the reference and the latest window, `p_value` its evidence
    after false-discovery control; `before` and `after` describe the two distributions in a few words.
    """

    name: str
    detector: Detector
    distance: float
    p_value: float
    before: str
    after: str
    since: AwareDatetime | None = None


class DriftDetectedData(ControlData):
    """A change of the data or the concept. Offsets are of the loop's outcome log.

    `kind` says which distribution has changed, and `subject` what shows it: the served error, or the name of a
    feature. `offset` is the outcome that raised the alarm, `change_point` the most likely first outcome of the new
    concept; `error_before` and `error_after` are the mean losses on either side of it, None for a drift that shows
    before labels. `features` are what has changed, the largest change first, and `slices` where it is largest.
    """

    kind: DriftKind = "concept"
    subject: str = SERVED_ERROR
    detector: Detector
    offset: int
    change_point: int
    outcomes: int
    outcomes_since_change: int
    error_before: float | None = None
    error_after: float | None = None
    version: str
    features: tuple[DriftedFeature, ...] = ()
    slices: tuple[str, ...] = ()

    @property
    def is_served_error_drift(self) -> bool:
        """Whether this drift makes predictions worse: only then the gate's test restarts."""
        return self.kind == "concept" and self.subject == SERVED_ERROR

    @property
    def has_outcomes(self) -> bool:
        """Whether there were outcomes: else no run can start from the change point."""
        return self.outcomes > 0


class DriftDetected(ControlEvent):
    """One drift, one alert; `subject` is the version that was serving."""

    topic: ClassVar[Topic] = Topic(
        "monitoring.drift_detected.v1", owner="monitoring", keyed_by="loop", retention_ms=30 * DAY_MS
    )
    type: Literal["monitoring.drift_detected.v1"] = "monitoring.drift_detected.v1"
    begins_trace: ClassVar[bool] = True
    source: str = "everloop/monitoring"
    data: DriftDetectedData

    def span_attributes(self) -> dict[str, Any]:
        """What has drifted: the kind and the version that was serving."""
        return {"everloop.drift.kind": self.data.kind, "everloop.version": self.data.version}


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
    outcomes up to the last offset. `blocks` are those of the same lines that end at one of `offsets`, where the spec's
    metric is one of ranks.
    """

    offsets: tuple[int, ...]
    served: tuple[str, ...]
    losses: dict[str, tuple[float | None, ...]]
    outcomes: int
    scores: Scores
    blocks: tuple[RankedBlock, ...] = ()


class EvaluationUpdated(ControlEvent):
    """Scores of a loop, and the losses of the served versions and their shadows on a range of outcomes."""

    topic: ClassVar[Topic] = Topic(
        "monitoring.evaluation_updated.v1", owner="monitoring", keyed_by="loop", retention_ms=30 * DAY_MS
    )
    type: Literal["monitoring.evaluation_updated.v1"] = "monitoring.evaluation_updated.v1"
    source: str = "everloop/monitoring"
    data: EvaluationUpdatedData


AlertKind = Literal[
    "drift",
    "rollback",
    "corrections",
    "dead_letter",
    "line_failed",
    "artifact",
    "signature",
    "erasure",
    "quality",
    "expectation",
    "fairness",
    "objective",
    "rule",
]


class AlertRaisedData(ControlData):
    """An alert for the operators, with its message in one sentence.

    `alert` names what it is about: the same text in each of its events, from `pending` by `firing` to `resolved`;
    events of earlier releases have none, and stand alone. `evidence` are the figures it rests on, `cause` what
    most likely led to it, `doing` what Everloop does about it, and `runbook` what a person does.
    """

    kind: AlertKind
    severity: Literal["info", "warning", "critical"]
    message: str
    alert: str = ""
    state: Literal["pending", "firing", "resolved"] = "firing"
    since: AwareDatetime | None = None
    evidence: tuple[str, ...] = ()
    cause: str | None = None
    doing: str | None = None
    runbook: str | None = None


class AlertRaised(ControlEvent):
    """An alert; `causationid` is the event that raised it."""

    topic: ClassVar[Topic] = Topic(
        "monitoring.alert_raised.v1", owner="monitoring", keyed_by="loop", retention_ms=FOREVER
    )
    type: Literal["monitoring.alert_raised.v1"] = "monitoring.alert_raised.v1"
    source: str = "everloop/monitoring"
    data: AlertRaisedData


class DeadLetterSentData(ControlData):
    """A dead letter that was sent again: the letter, the topic that it went to, and the event that it became there.

    `repaired` says that its bytes were changed before, `digest` is the SHA-256 of what was sent, `actor` who sent it,
    and `actor_kind` and `actor_source` how that is known, as in decisions.
    """

    letter: str
    topic: str
    event: str
    digest: str
    repaired: bool = False
    actor: str = "anonymous"
    actor_kind: str | None = None
    actor_source: str | None = None


class DeadLetterSent(ControlEvent):
    """A dead letter was sent again; `subject` is its id. The same bytes of the same letter give the same event."""

    topic: ClassVar[Topic] = Topic(
        "monitoring.dead_letter_sent.v1", owner="monitoring", keyed_by="loop", retention_ms=30 * DAY_MS
    )
    type: Literal["monitoring.dead_letter_sent.v1"] = "monitoring.dead_letter_sent.v1"
    source: str = "everloop/monitoring"
    data: DeadLetterSentData
