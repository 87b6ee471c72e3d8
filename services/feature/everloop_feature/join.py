"""What is kept of a prediction id: the prediction, what waits for it, and what is known of its truth; pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from pydantic_core import from_json, to_json

from everloop_schemas.envelope import Scalar
from everloop_schemas.ingest import LabelReceived
from everloop_schemas.serving import PredictionMade
from everloop_shared.messaging.routes import Position

WORDS_WAITING, BYTES_WAITING = 20, 64_000
"""Labels and feedback that wait for one prediction, at most."""


@dataclass(frozen=True)
class Waiting:
    """A label or feedback as it travels, with where it lay on the log, so that its dead letter can say so."""

    id: str
    kind: str
    revision: int
    wire: bytes
    at: Position

    @property
    def label(self) -> LabelReceived:
        """The event."""
        return LabelReceived.model_validate_json(self.wire)

    @classmethod
    def of(cls, event: LabelReceived, at: Position) -> Waiting:
        """An event that waits."""
        return cls(event.id, event.data.kind, event.revision, event.encode(), at)

    def named(self) -> list[Any]:
        """All but the event."""
        at = self.at
        return [self.id, self.kind, self.revision, at.topic, at.partition, at.offset, at.timestamp]


@dataclass(frozen=True)
class Truth:
    """What is known of a prediction's truth: the label, or the class that it is not."""

    label: Scalar | None = None
    rejected: Scalar | None = None


@dataclass(frozen=True)
class Join:
    """Both sides of one prediction id.

    `waiting` came before the prediction; `overdue` waited too long, and leave as dead letters. `words` are the
    hashes of the labels and feedback applied, `voices` of who gave feedback and what each said last. `as_of` is the
    time of what made the truth, in microseconds since the epoch, and `by_label` whether that was a label. It is
    forgotten at `due_ms`, in the broker's time. `revision` is the prediction's.
    """

    due_ms: int
    prediction: bytes | None = None
    made_by: int = 0
    waiting: tuple[Waiting, ...] = ()
    overdue: tuple[Waiting, ...] = ()
    truth: Truth | None = None
    corrections: int = 0
    words: tuple[str, ...] = ()
    voices: tuple[tuple[str, str], ...] = ()
    as_of: int = 0
    by_label: bool = False

    @property
    def made(self) -> PredictionMade | None:
        """The prediction."""
        return PredictionMade.model_validate_json(self.prediction) if self.prediction else None

    @property
    def revision(self) -> int:
        """That of its prediction, or of a label that waits; 0 where neither says."""
        return self.made_by or next((w.revision for w in (*self.waiting, *self.overdue)), 0)

    def dump(self) -> bytes:
        """The value to keep: what is known in a line of JSON, then the events as they travel, each in its own line."""
        truth = [self.truth.label, self.truth.rejected] if self.truth else None
        known = [self.due_ms, truth, self.corrections, self.words, self.voices, self.as_of, self.by_label, self.made_by]
        waits = [[w.named() for w in side] for side in (self.waiting, self.overdue)]
        events = [w.wire for w in (*self.waiting, *self.overdue)]
        return b"\n".join([to_json([known, *waits]), self.prediction or b"", *events])

    @classmethod
    def load(cls, value: bytes) -> Join:
        """The join from its value."""
        if not value.startswith(b"[["):
            return _of_before(value)
        head, prediction, *events = value.split(b"\n")
        known, waiting, overdue = from_json(head)
        due_ms, truth, corrections, words, voices, as_of, by_label, made_by = known
        return cls(
            due_ms=due_ms,
            prediction=prediction or None,
            made_by=made_by,
            waiting=_waits(waiting, events),
            overdue=_waits(overdue, events[len(waiting) :]),
            truth=Truth(*truth) if truth else None,
            corrections=corrections,
            words=tuple(words),
            voices=tuple((voice, said) for voice, said in voices),
            as_of=as_of,
            by_label=by_label,
        )

    def predicted(self, event: PredictionMade) -> Join:
        """With the prediction there."""
        return replace(self, prediction=event.encode(), made_by=event.revision, waiting=())

    def wait(self, word: Waiting) -> tuple[Join, list[Waiting]]:
        """With one more label or feedback that waits for the prediction, and what has to make room for it.

        The oldest feedback goes first, then the oldest label, but never the one that came.
        """
        if any(w.id == word.id for w in self.waiting):
            return self, []
        waiting, dropped = [*self.waiting, word], list[Waiting]()
        while len(waiting) > WORDS_WAITING or (len(waiting) > 1 and sum(len(w.wire) for w in waiting) > BYTES_WAITING):
            kinds = [w.kind for w in waiting[:-1]]
            dropped.append(waiting.pop(kinds.index("feedback") if "feedback" in kinds else 0))
        return replace(self, waiting=tuple(waiting)), dropped

    def overdue_now(self) -> Join:
        """With the labels that wait given up; they leave once this is safe, so that they never join after all."""
        return replace(self, waiting=(), overdue=(*self.overdue, *self.waiting))


def _waits(named: Iterable[list[Any]], events: Iterable[bytes]) -> tuple[Waiting, ...]:
    return tuple(
        Waiting(id, kind, revision, wire, Position(*at))
        for (id, kind, revision, *at), wire in zip(named, events, strict=False)
    )


def _of_before(value: bytes) -> Join:
    """A join as it was kept before labels and feedback were told apart: whatever its truth, it is taken for a label."""
    due_ms, prediction, waiting, overdue, truth, corrections, words, *rest = json.loads(value)
    voices, as_of, by_label = rest or ((), 0, truth is not None)
    made = PredictionMade.model_validate(prediction) if prediction else None
    sides = [[Waiting.of(LabelReceived.model_validate(e), Position(*at)) for e, at in s] for s in (waiting, overdue)]
    return Join(
        due_ms=due_ms,
        prediction=made.encode() if made else None,
        made_by=made.revision if made else 0,
        waiting=tuple(sides[0]),
        overdue=tuple(sides[1]),
        truth=Truth(*truth) if truth else None,
        corrections=corrections,
        words=tuple(words),
        voices=tuple((voice, said) for voice, said in voices),
        as_of=as_of,
        by_label=by_label,
    )
