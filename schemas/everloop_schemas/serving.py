"""The events of serving: predictions, the observations of REST predictions, and the state of versions."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from everloop_schemas.envelope import (
    DAY_MS,
    ControlData,
    ControlEvent,
    Data,
    DataEvent,
    Fields,
    Scalar,
    Timestamp,
    Topic,
    written,
)
from everloop_schemas.ingest import EventReceivedData

Role = Literal["baseline", "champion", "canary"]


class ObservationReceived(DataEvent, frozen=True, kw_only=True, tag="serving.observation_received.v1"):
    """An observation that was sent for a REST prediction: it is predicted, and updates the entity's windows."""

    topic: ClassVar[Topic] = Topic("serving.observation_received.v1", owner="serving", keyed_by="loop/subject")
    source: str = written("everloop/serving")
    data: EventReceivedData


class Shadow(Data, frozen=True, kw_only=True):
    """The prediction of another version for the same features, which was not served."""

    version: str
    prediction: Scalar
    probabilities: dict[str, float] | None = None


class WindowsUsed(Data, frozen=True, kw_only=True):
    """The state of the entity's windows from which the features of a prediction were computed.

    It is feature's state after `applied` observations of the entity and, where `previous` is given (REST only), a chain
    of REST observations on top of it: that of prediction `previous`, whose own `windows` name the one before it.
    `source` is where feature's state came from: `stream` (feature computed the vector itself), `memory` (serving had
    it), `feature` (read for this request), `new` (feature has no state of the entity, so that empty windows are right),
    or `unread` (it could not be read in time: the windows began empty, although there may be a state).
    """

    applied: int
    source: Literal["stream", "memory", "feature", "new", "unread"]
    previous: str | None = None


class Explanation(Data, frozen=True, kw_only=True):
    """What each feature contributed to a prediction.

    `base` and the contributions sum to the score that the model gives this prediction. `scale` says what that is: the
    probability or the log odds of the class `of`, its margin (what goes into Softmax), or the value. Records of earlier
    releases have none: log odds or a value for linear models, a probability or a value else. `method` says how the
    contributions were found.
    """

    method: Literal["linear", "tree", "permutation"]
    of: str | None = None
    scale: Literal["probability", "log_odds", "margin", "value"] | None = None
    base: float
    contributions: dict[str, float]


class PredictionMadeData(Data, frozen=True, kw_only=True):
    """Everything about one prediction: training learns from it and never recomputes it.

    `propensity` is the probability with which the split chose this version, `latency_ms` the time of the model.
    `door` is the way the observation came: the stream, or REST. `fingerprint` distinguishes the observation from
    another one under the same id. `windows` is None where no feature of the loop has a window. `anomaly` in [0, 1] says
    how unusual the observation is, where the loop asks for it, and `explanation` is there where the request asked.
    `personal` holds the sealed values of the features that follow from personal fields, and what these contributed;
    `features` and `explanation` have the others.
    """

    entity: str
    features: Fields
    prediction: Scalar
    probabilities: dict[str, float] | None = None
    version: str
    role: Role
    propensity: float
    latency_ms: float
    observed: Timestamp
    door: Literal["stream", "rest"]
    shadows: tuple[Shadow, ...] = written(())
    fingerprint: str | None = None
    windows: WindowsUsed | None = None
    anomaly: float | None = None
    explanation: Explanation | None = None
    personal: str | None = None


class PredictionMade(DataEvent, frozen=True, kw_only=True, tag="serving.prediction_made.v1"):
    """The one prediction of a prediction id (`subject`)."""

    topic: ClassVar[Topic] = Topic(
        "serving.prediction_made.v1", owner="serving", keyed_by="loop/subject", retention_ms=30 * DAY_MS
    )
    keeps_wire: ClassVar[bool] = True  # feature stores it until its label comes
    source: str = written("everloop/serving")
    data: PredictionMadeData

    def span_attributes(self) -> dict[str, Any]:
        """The version that has predicted, and its role."""
        return {"everloop.version": self.data.version, "everloop.role": self.data.role}


class VersionStateData(ControlData):
    """The state of one version on one serving instance; `reason` is why it failed or fell back.

    `serving` is the version that answers for the loop on that instance, while `version` does not.
    """

    version: str
    instance: str
    state: Literal["ready", "failed", "fell_back"]
    reason: str | None = None
    serving: str | None = None


class VersionState(ControlEvent):
    """A version became ready on an instance, failed to load, or serving fell back from it."""

    topic: ClassVar[Topic] = Topic(
        "serving.version_state.v1", owner="serving", keyed_by="loop", retention_ms=30 * DAY_MS
    )
    type: Literal["serving.version_state.v1"] = "serving.version_state.v1"
    source: str = "everloop/serving"
    data: VersionStateData

    def span_attributes(self) -> dict[str, Any]:
        """The version, and how it is."""
        return {"everloop.version": self.data.version, "everloop.state": self.data.state}
