"""Builds the events that feature publishes, the same bytes from the same input."""

from __future__ import annotations

from everloop_feature.domain.entity import Entity
from everloop_feature.domain.label_join import JoinedOutcome, RejectedLabel
from everloop_feature.domain.stored_prediction import StoredPrediction
from everloop_schemas.dead_letter import DeadLetter
from everloop_schemas.envelope import Event, Scalar, derived_id
from everloop_schemas.feature import (
    EntityState,
    EntityStateData,
    FeaturesComputed,
    FeaturesComputedData,
    LabelJoined,
    LabelJoinedData,
    OutcomeObserved,
    OutcomeObservedData,
)
from everloop_schemas.ingest import EventReceived
from everloop_schemas.serving import ObservationReceived
from everloop_shared.messaging.processing.dead_letter import make_dead_letter
from everloop_shared.messaging.routes import Position

SERVICE = "feature"


def build_features_event(
    event: EventReceived | ObservationReceived, entity: Entity, fingerprint: str, revision: int
) -> FeaturesComputed:
    """The vector of an observation, for serving."""
    return FeaturesComputed(
        id=derived_id(event.loop, FeaturesComputed.type_name(), event.id),
        time=event.time,
        subject=event.data.entity,
        loop=event.loop,
        revision=revision,
        causationid=event.id,
        traceparent=event.traceparent,
        data=FeaturesComputedData(
            prediction_id=event.id,
            entity=event.data.entity,
            features=entity.features,
            received=event.data.received,
            fingerprint=fingerprint,
            applied=entity.applied,
            personal=entity.sealed_features,
        ),
    )


def build_entity_state_events(
    event: EventReceived | ObservationReceived | LabelJoined, entity: Entity, life: int
) -> list[Event]:
    """The entity's windows, for REST predictions; none where no feature has a window."""
    if not entity.state and entity.sealed_state is None:
        return []
    return [
        EntityState(
            id=derived_id(event.loop, EntityState.type_name(), event.id),
            time=event.time,
            subject=event.data.entity,
            loop=event.loop,
            revision=event.revision or life,
            causationid=event.id,
            traceparent=event.traceparent,
            data=EntityStateData(
                entity=event.data.entity, applied=entity.applied, state=entity.state, personal=entity.sealed_state
            ),
        )
    ]


def build_outcome_events(outcome: JoinedOutcome, label_feature: bool) -> list[Event]:
    """The outcome and, with `label_feature` (the loop has a `lag: label`), its label for the entity's windows."""
    event, label = build_outcome_event(outcome), outcome.truth.label
    if label is None or not label_feature:
        return [event]
    return [event, build_label_joined_event(outcome.prediction, event, label)]


def build_outcome_event(outcome: JoinedOutcome) -> OutcomeObserved:
    """The outcome: the same bytes from the same prediction and label, whichever came first."""
    prediction, label = outcome.prediction, outcome.label
    return OutcomeObserved(
        id=derived_id(prediction.loop, OutcomeObserved.type_name(), prediction.subject, outcome.correction),
        time=label.time,
        subject=prediction.subject,
        loop=prediction.loop,
        revision=prediction.revision,
        causationid=label.id,
        traceparent=prediction.traceparent or label.traceparent,
        data=OutcomeObservedData(
            prediction_id=prediction.subject,
            entity=prediction.data.entity,
            label=outcome.truth.label,
            rejected=outcome.truth.rejected,
            correction=outcome.correction,
            kind=label.data.kind,
            source=label.data.source,
            disputed=outcome.disputed or None,
            labelled=label.time,
            predicted=prediction.time,
            **prediction.repeated(),
        ),
    )


def build_label_joined_event(prediction: StoredPrediction, outcome: OutcomeObserved, label: Scalar) -> LabelJoined:
    """The label of an outcome, for the windows of its entity."""
    return LabelJoined(
        id=derived_id(prediction.loop, LabelJoined.type_name(), outcome.id),
        time=outcome.time,
        subject=prediction.data.entity,
        loop=prediction.loop,
        revision=prediction.revision,
        causationid=outcome.id,
        traceparent=outcome.traceparent,
        data=LabelJoinedData(
            prediction_id=prediction.subject,
            entity=prediction.data.entity,
            label=label,
            observed=prediction.data.observed,
            correction=outcome.data.correction,
        ),
    )


def build_dead_letter(event: Event, at: Position, error: Exception) -> DeadLetter:
    """The dead letter of an event that could be read, but may not be applied."""
    return make_dead_letter(SERVICE, at, event.key(), event.encode(), error)


def build_label_dead_letter(key: str, rejected: RejectedLabel) -> DeadLetter:
    """The dead letter of a label or feedback that is not joined."""
    return make_dead_letter(SERVICE, rejected.at, key.encode(), rejected.wire, rejected.error)
