"""The stored state of one prediction id: the prediction, labels that wait for it, and what is known of its truth."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace
from pydantic_core import from_json

from everloop_feature.domain.stored_prediction import StoredPrediction
from everloop_schemas.envelope import Scalar
from everloop_schemas.ingest import LabelReceived
from everloop_schemas.serving import PredictionMade
from everloop_shared.messaging.routes import Position

MAX_WAITING_LABELS = 20
"""Labels and feedback that wait for one prediction, at most."""
MAX_WAITING_LABEL_BYTES = 64_000
"""Their bytes, at most; one label always finds room."""


class WaitingLabel(msgspec.Struct, frozen=True, array_like=True):
    """A label or feedback that waits for its prediction: its encoded event, and its position for a dead letter."""

    id: str
    kind: str
    revision: int
    wire: bytes
    at: Position

    @classmethod
    def of(cls, label: LabelReceived, at: Position) -> WaitingLabel:
        """A label that came before its prediction."""
        return cls(label.id, label.data.kind, label.revision, label.encode(), at)

    def decode(self) -> LabelReceived:
        """The event."""
        return LabelReceived.decode(self.wire)


class Truth(msgspec.Struct, frozen=True, array_like=True):
    """The label of a prediction, or the class that feedback ruled out (`rejected`)."""

    label: Scalar | None = None
    rejected: Scalar | None = None

    def same_as(self, other: Truth | None) -> bool:
        """Whether both are the same, types included: True is not 1."""
        return other is not None and self == other and type(self.label) is type(other.label)


class Join(msgspec.Struct, frozen=True, array_like=True):
    """What is stored under one prediction id until `due_ms`, in the broker's time.

    `prediction` is the encoded event, `prediction_revision` the revision of the spec that it carries. `waiting` came
    before the prediction; `overdue` waited too long or were evicted, and become dead letters in the next sweep.
    `applied_ids` are hashes of the ids of labels and feedback that were applied, `feedback` has a hash of each source
    with a hash of its content. `truth_time_us` is the time of the truth in microseconds since the epoch, and
    `truth_is_label` whether it comes from a label, or from feedback.
    """

    due_ms: int
    prediction: bytes | None = None
    prediction_revision: int = 0
    waiting: tuple[WaitingLabel, ...] = ()
    overdue: tuple[WaitingLabel, ...] = ()
    truth: Truth | None = None
    corrections: int = 0
    applied_ids: tuple[str, ...] = ()
    feedback: tuple[tuple[str, str], ...] = ()
    truth_time_us: int = 0
    truth_is_label: bool = False

    @property
    def revision(self) -> int:
        """The revision of its prediction, or of a label that waits; 0 where neither carries one."""
        return self.prediction_revision or next((w.revision for w in (*self.waiting, *self.overdue)), 0)

    def dump(self) -> bytes:
        """The stored value: its fields in MessagePack."""
        return _encoder.encode(self)

    @classmethod
    def load(cls, value: bytes) -> Join:
        """The join from its stored value."""
        if value.startswith(b"[["):
            return _load_json_form(value)
        return _load_first_form(value) if value.startswith(b"[") else _decoder.decode(value)

    def read_prediction(self) -> StoredPrediction | None:
        """What an outcome needs of the prediction; None before it came."""
        return StoredPrediction.read(self.prediction) if self.prediction else None

    def add_prediction(self, event: PredictionMade) -> Join:
        """The join with its prediction; nothing waits any more."""
        return replace(self, prediction=event.encode(), prediction_revision=event.revision, waiting=())

    def add_waiting(self, label: WaitingLabel) -> tuple[Join, list[WaitingLabel]]:
        """The join with one more label that waits, and those that are evicted for it.

        The oldest feedback is evicted first, then the oldest label, but never the one that is added.
        """
        if any(w.id == label.id for w in self.waiting):
            return self, []
        waiting, evicted = [*self.waiting, label], list[WaitingLabel]()
        while len(waiting) > MAX_WAITING_LABELS or (len(waiting) > 1 and _bytes(waiting) > MAX_WAITING_LABEL_BYTES):
            kinds = [w.kind for w in waiting[:-1]]
            evicted.append(waiting.pop(kinds.index("feedback") if "feedback" in kinds else 0))
        return replace(self, waiting=tuple(waiting)), evicted

    def drop_prediction(self) -> Join:
        """The join without its prediction, which was evicted."""
        return replace(self, prediction=None)

    def give_up_waiting(self) -> Join:
        """The join with all that waits overdue. Stored before the dead letters leave, so that none joins after all."""
        return replace(self, waiting=(), overdue=(*self.overdue, *self.waiting))


def _bytes(labels: Iterable[WaitingLabel]) -> int:
    return sum(len(w.wire) for w in labels)


_encoder, _decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Join)


def _load_json_form(value: bytes) -> Join:
    """A join in the form of earlier releases: a line of JSON, then each encoded event in a line of its own."""
    head, prediction, *events = value.split(b"\n")
    known, waiting, overdue = from_json(head)
    due_ms, truth, corrections, applied_ids, feedback, truth_time_us, truth_is_label, prediction_revision = known
    return Join(
        due_ms=due_ms,
        prediction=prediction or None,
        prediction_revision=prediction_revision,
        waiting=_waiting_labels(waiting, events),
        overdue=_waiting_labels(overdue, events[len(waiting) :]),
        truth=Truth(*truth) if truth else None,
        corrections=corrections,
        applied_ids=tuple(applied_ids),
        feedback=tuple((source, content) for source, content in feedback),
        truth_time_us=truth_time_us,
        truth_is_label=truth_is_label,
    )


def _waiting_labels(headers: Iterable[list[Any]], events: Iterable[bytes]) -> tuple[WaitingLabel, ...]:
    return tuple(
        WaitingLabel(id, kind, revision, wire, Position(*at))
        for (id, kind, revision, *at), wire in zip(headers, events, strict=False)
    )


def _load_first_form(value: bytes) -> Join:
    """A join in the form of the first releases, without the source of its truth: it counts as a label."""
    due_ms, prediction, waiting, overdue, truth, corrections, applied_ids, *rest = json.loads(value)
    feedback, truth_time_us, truth_is_label = rest or ((), 0, truth is not None)
    event = msgspec.convert(prediction, PredictionMade) if prediction else None
    sides = [
        [WaitingLabel.of(msgspec.convert(e, LabelReceived), Position(*at)) for e, at in s] for s in (waiting, overdue)
    ]
    return Join(
        due_ms=due_ms,
        prediction=event.encode() if event else None,
        prediction_revision=event.revision if event else 0,
        waiting=tuple(sides[0]),
        overdue=tuple(sides[1]),
        truth=Truth(*truth) if truth else None,
        corrections=corrections,
        applied_ids=tuple(applied_ids),
        feedback=tuple((source, content) for source, content in feedback),
        truth_time_us=truth_time_us,
        truth_is_label=truth_is_label,
    )
