"""The events that feature publishes, made from what it was told and what it remembers."""

from __future__ import annotations

from everloop_feature.domain import Entity
from everloop_feature.join import Waiting
from everloop_feature.words import Outcome
from everloop_schemas.envelope import Event, derived_id
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
from everloop_schemas.serving import ObservationReceived, PredictionMade
from everloop_shared.messaging.processing.dead_letter import dead_letter
from everloop_shared.messaging.routes import Position

SERVICE = "feature"


def computed(event: EventReceived, entity: Entity, fingerprint: str, revision: int | None) -> FeaturesComputed:
    """The vector of an observation."""
    return FeaturesComputed(
        id=derived_id(event.loop, FeaturesComputed.type_name(), event.id),
        time=event.time,
        subject=event.data.entity,
        loop=event.loop,
        revision=revision or event.revision,
        causationid=event.id,
        traceparent=event.traceparent,
        data=FeaturesComputedData(
            prediction_id=event.id,
            entity=event.data.entity,
            features=entity.features,
            received=event.data.received,
            fingerprint=fingerprint,
        ),
    )


def entity_state(event: EventReceived | ObservationReceived | LabelJoined, entity: Entity, life: int) -> list[Event]:
    """The entity's state for the REST path, in its loop's present life; one that remembers nothing needs none."""
    if not entity.state:
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
            data=EntityStateData(entity=event.data.entity, applied=entity.applied, state=entity.state),
        )
    ]


def observed(made: PredictionMade, outcome: Outcome) -> OutcomeObserved:
    """The outcome: the same bytes from the same two events, whichever came first."""
    word, said = outcome.word, made.data
    return OutcomeObserved(
        id=derived_id(made.loop, OutcomeObserved.type_name(), made.subject, outcome.correction),
        time=word.time,
        subject=made.subject,
        loop=made.loop,
        revision=made.revision,
        causationid=word.id,
        traceparent=word.traceparent or made.traceparent,
        data=OutcomeObservedData(
            prediction_id=made.subject,
            entity=said.entity,
            label=outcome.truth.label,
            rejected=outcome.truth.rejected,
            correction=outcome.correction,
            kind=word.data.kind,
            source=word.data.source,
            disputed=outcome.disputed or None,
            labelled=word.time,
            predicted=made.time,
            **said.model_dump(
                include={"features", "prediction", "probabilities", "version", "role", "propensity", "shadows"}
            ),
        ),
    )


def joined(made: PredictionMade, outcome: OutcomeObserved, label: object) -> LabelJoined:
    """The label of an outcome, for the entity's own windows."""
    return LabelJoined(
        id=derived_id(made.loop, LabelJoined.type_name(), outcome.id),
        time=outcome.time,
        subject=made.data.entity,
        loop=made.loop,
        revision=made.revision,
        causationid=outcome.id,
        traceparent=outcome.traceparent,
        data=LabelJoinedData(
            prediction_id=made.subject,
            entity=made.data.entity,
            label=label,
            observed=made.data.observed,
            correction=outcome.data.correction,
        ),
    )


def refused(event: Event, at: Position, error: Exception) -> Event:
    """The dead letter of an event that a rule refuses: the record was readable, so it says again what it said."""
    return dead_letter(SERVICE, at, event.key(), event.encode(), error)


def parked(word: Waiting, key: str, error: Exception) -> Event:
    """The dead letter of a label that waited in vain."""
    return dead_letter(SERVICE, word.at, key.encode(), word.wire, error)
