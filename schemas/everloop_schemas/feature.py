"""The events of feature: computed features, entity states, and outcomes (predictions joined with their labels)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from everloop_schemas.envelope import FOREVER, Data, DataEvent, Fields, Scalar, Timestamp, Topic, written
from everloop_schemas.serving import Shadow


class FeaturesComputedData(Data, frozen=True, kw_only=True):
    """The vector for one observation; `fingerprint` distinguishes it from another observation under the same id.

    The observation is number `applied` of its entity, in the order in which feature applied them. `personal` holds the
    sealed values of the features that follow from personal fields; `features` has the others.
    """

    prediction_id: str
    entity: str
    features: Fields
    received: Timestamp
    fingerprint: str | None = None
    applied: int | None = None
    personal: str | None = None


class FeaturesComputed(DataEvent, frozen=True, kw_only=True, tag="feature.features_computed.v1"):
    """A vector to predict from; `subject` is the entity, `time` the observation's."""

    topic: ClassVar[Topic] = Topic("feature.features_computed.v1", owner="feature", keyed_by="loop/subject")
    source: str = written("everloop/feature")
    data: FeaturesComputedData


class EntityStateData(Data, frozen=True, kw_only=True):
    """The window state of one entity after `applied` observations, in the form of `everloop_features`.

    In loops with personal fields `personal` holds it sealed, and `state` is empty.
    """

    entity: str
    applied: int
    state: dict[str, Any]
    personal: str | None = None


class EntityState(DataEvent, frozen=True, kw_only=True, tag="feature.entity_state.v1"):
    """The latest window state of an entity, so that a REST prediction can compute the same features."""

    topic: ClassVar[Topic] = Topic(
        "feature.entity_state.v1", owner="feature", keyed_by="loop/subject", retention_ms=FOREVER, compacted=True
    )
    source: str = written("everloop/feature")
    data: EntityStateData


class LabelJoinedData(Data, frozen=True, kw_only=True):
    """A label that was joined with its prediction, published to the entity's partition for features with `lag: label`.

    `observed` is the observation's own time, `correction` the number of labels before this one: the latest label of
    the newest observation applies.
    """

    prediction_id: str
    entity: str
    label: Scalar
    observed: Timestamp | None = None
    correction: int = written(0)


class LabelJoined(DataEvent, frozen=True, kw_only=True, tag="feature.label_joined.v1"):
    """The label of an entity's prediction; `subject` is the entity."""

    topic: ClassVar[Topic] = Topic("feature.label_joined.v1", owner="feature", keyed_by="loop/subject")
    source: str = written("everloop/feature")
    data: LabelJoinedData


class OutcomeObservedData(Data, frozen=True, kw_only=True):
    """A prediction with its label.

    `label` is None only where feedback ruled out a class and the label is not known; `rejected` is that class.
    `correction` is 0 for the first label or feedback of a prediction and counts the later ones: a correction is a
    new revision of the same outcome (same `subject`), never a second outcome. `source` is who gave the feedback;
    `disputed` feedback contradicts a label, which stays. `personal` is that of the prediction.
    """

    prediction_id: str
    entity: str
    label: Scalar | None = None
    rejected: Scalar | None = None
    correction: int = written(0)
    kind: Literal["label", "feedback"] = written("label")
    source: str | None = None
    disputed: bool | None = None
    labelled: Timestamp
    predicted: Timestamp
    features: Fields
    prediction: Scalar
    probabilities: dict[str, float] | None = None
    version: str
    role: Literal["baseline", "champion", "canary"]
    propensity: float
    shadows: tuple[Shadow, ...] = written(())
    personal: str | None = None


class OutcomeObserved(DataEvent, frozen=True, kw_only=True, tag="feature.outcome_observed.v1"):
    """One outcome of a loop; the topic is the loop's whole history in one order. `subject` is the prediction id."""

    topic: ClassVar[Topic] = Topic(
        "feature.outcome_observed.v1", owner="feature", keyed_by="loop", retention_ms=FOREVER
    )
    source: str = written("everloop/feature")
    data: OutcomeObservedData

    def span_attributes(self) -> dict[str, Any]:
        """The version that had predicted."""
        return {"everloop.version": self.data.version}
