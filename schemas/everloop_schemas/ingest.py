"""The events of ingest: observations, labels and feedback, as applications sent them."""

from __future__ import annotations

from typing import ClassVar, Literal

from everloop_schemas.envelope import Data, DataEvent, Fields, Scalar, Timestamp, Topic, written


class EventReceivedData(Data, frozen=True, kw_only=True):
    """An observation. `fields` fit the loop's schema; `received` is the time of its arrival.

    `personal` holds the sealed values of the fields that the spec calls personal; `fields` has the others.
    """

    entity: str
    fields: Fields
    received: Timestamp
    personal: str | None = None


class EventReceived(DataEvent, frozen=True, kw_only=True, tag="ingest.event_received.v1"):
    """An observation that was sent to ingest. `id` is the application's own and becomes the prediction id."""

    topic: ClassVar[Topic] = Topic("ingest.event_received.v1", owner="ingest", keyed_by="loop/subject")
    source: str = written("everloop/ingest")
    data: EventReceivedData


class LabelReceivedData(Data, frozen=True, kw_only=True):
    """A label (`label` set), or feedback (`label`, or `correct` about the prediction that was served).

    In loops with personal fields `personal` holds the sealed comment.
    """

    prediction_id: str
    kind: Literal["label", "feedback"]
    label: Scalar | None = None
    correct: bool | None = None
    comment: str | None = None
    source: str | None = None
    received: Timestamp
    personal: str | None = None


class LabelReceived(DataEvent, frozen=True, kw_only=True, tag="ingest.label_received.v1"):
    """A label or feedback on a prediction; `subject` is the prediction id.

    `actor` is who sent it by HTTP, with `actor_kind` and `actor_source` as in decisions; absent where nobody is asked.
    """

    topic: ClassVar[Topic] = Topic("ingest.label_received.v1", owner="ingest", keyed_by="loop/subject")
    source: str = written("everloop/ingest")
    actor: str | None = None
    actor_kind: str | None = None
    actor_source: str | None = None
    data: LabelReceivedData
