"""The label join as a state machine: a join and a prediction or label give the next join, outcomes and rejections."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from msgspec.structs import replace

from everloop_feature.domain.entity import id_hash
from everloop_feature.domain.join import Join, Truth, WaitingLabel
from everloop_feature.domain.loops import ActiveLoop
from everloop_feature.domain.stored_prediction import StoredPrediction
from everloop_feature.errors import LabelCrowdedOut, LabelTooLate, NothingToLearn, PredictionNeverCame
from everloop_features.labels import is_valid_label, widen_label_rules
from everloop_features.times import is_later, to_micros
from everloop_schemas.envelope import Scalar
from everloop_schemas.ingest import LabelReceived
from everloop_schemas.loop import Task
from everloop_schemas.serving import PredictionMade
from everloop_shared.errors import InputRejected
from everloop_shared.messaging.routes import Position

REMEMBERED_PER_PREDICTION = 16
"""How many applied labels and feedback, and how many sources of feedback, a join remembers."""


@dataclass(frozen=True)
class JoinedOutcome:
    """A prediction with its truth after `label`; `correction` counts the outcomes of the prediction before this one.

    `disputed`: `label` is feedback that contradicts a label, which stays the truth.
    """

    prediction: StoredPrediction
    label: LabelReceived
    truth: Truth
    correction: int
    disputed: bool = False


@dataclass(frozen=True)
class RejectedLabel:
    """A label or feedback that is not joined, and why: it becomes a dead letter."""

    wire: bytes
    at: Position
    error: InputRejected


class JoinStep(NamedTuple):
    """The join after an event, and what follows from it, in order."""

    join: Join
    results: Sequence[JoinedOutcome | RejectedLabel] = ()


def receive_prediction(join: Join, prediction: PredictionMade, loop: ActiveLoop) -> JoinStep:
    """A prediction came: the labels that waited for it are joined, in the order in which they came."""
    waiting, results = join.waiting, list[JoinedOutcome | RejectedLabel]()
    join = join.add_prediction(prediction)
    if not waiting:
        return JoinStep(join)
    stored = StoredPrediction.read(prediction.encode())
    for label in waiting:
        step = _join_label(join, stored, label.decode(), label.at, loop)
        join = step.join
        results += step.results
    return JoinStep(join, results)


def receive_label(join: Join, label: LabelReceived, at: Position, loop: ActiveLoop) -> JoinStep:
    """A label or feedback came: it is joined with its prediction, or waits for it."""
    prediction = join.read_prediction()
    if prediction is not None:
        return _join_label(join, prediction, label, at, loop)
    join, evicted = join.add_waiting(WaitingLabel.of(label, at))
    return JoinStep(join, [_crowded_out(w, label.subject, "later ones for the same prediction") for w in evicted])


def release_overdue(join: Join, prediction_id: str, now_ms: int) -> JoinStep:
    """Labels whose prediction never came leave the join: it expired, or was evicted before."""
    expired = join.due_ms <= now_ms
    never_came = PredictionNeverCame(f"no prediction of id {prediction_id!r} came in time")
    results = [
        RejectedLabel(w.wire, w.at, never_came)
        if expired
        else _crowded_out(w, prediction_id, "others of ids without a prediction")
        for w in join.overdue
    ]
    return JoinStep(replace(join, overdue=()), results)


def _crowded_out(label: WaitingLabel, prediction_id: str, by: str) -> RejectedLabel:
    error = LabelCrowdedOut(f"no prediction of id {prediction_id!r} has come, and {by} needed the room")
    return RejectedLabel(label.wire, label.at, error)


def _join_label(
    join: Join, prediction: StoredPrediction, label: LabelReceived, at: Position, loop: ActiveLoop
) -> JoinStep:
    if error := _why_not_joined(prediction, label, loop):
        return JoinStep(join, [RejectedLabel(label.encode(), at, error)])
    id_mark = id_hash(label.id).hex()
    if id_mark in join.applied_ids:
        return JoinStep(join)
    try:
        truth = resolve_truth(loop.spec.task, prediction.data.prediction, join.truth, label)
    except ValueError as e:
        return JoinStep(join, [RejectedLabel(label.encode(), at, NothingToLearn(str(e)))])
    join = replace(join, applied_ids=(*join.applied_ids, id_mark)[-REMEMBERED_PER_PREDICTION:])
    apply = _apply_label if label.data.kind == "label" else _apply_feedback
    return apply(join, prediction, truth, label)


def _why_not_joined(prediction: StoredPrediction, label: LabelReceived, loop: ActiveLoop) -> InputRejected | None:
    """Too late, or feedback on an answer that could be no label of the loop.

    A label without a time of its own is never too late: it is as old as its arrival, and its prediction is kept for
    `label.within` only.
    """
    if has_own_time(label) and is_later(label.time, prediction.data.observed, loop.label_within_s):
        within = loop.spec.label.within
        return LabelTooLate(f"late: of {label.time}, but labels may come within {within} of the observation")
    answer = prediction.data.prediction
    if label.data.correct is not None and not _can_be_label(loop, answer, prediction.revision):
        return NothingToLearn(f"the prediction {answer!r} is no label of the loop; send `label`")
    return None


def _can_be_label(loop: ActiveLoop, answer: Scalar, revision: int) -> bool:
    """Whether the answer of a prediction of this revision may be learned as a label."""
    return is_valid_label(loop.spec, answer) or (
        loop.is_earlier(revision) and is_valid_label(widen_label_rules(loop.spec), answer)
    )


def _apply_label(join: Join, prediction: StoredPrediction, truth: Truth, label: LabelReceived) -> JoinStep:
    """Of labels the one with the latest time is the truth, of equal times the one that came last.

    A label that is older than the one known changes nothing, nor does one that repeats it.
    """
    time_us = label_time_us(label)
    if join.truth_is_label and time_us < join.truth_time_us and has_own_time(label):
        return JoinStep(join)
    repeats = join.truth_is_label and truth.same_as(join.truth)
    joined = replace(
        join,
        truth=truth,
        truth_time_us=max(time_us, join.truth_time_us),
        truth_is_label=True,
        corrections=join.corrections + (not repeats),
    )
    return JoinStep(joined, [] if repeats else [JoinedOutcome(prediction, label, truth, join.corrections)])


def _apply_feedback(join: Join, prediction: StoredPrediction, truth: Truth, feedback: LabelReceived) -> JoinStep:
    """Feedback is the truth only where no label is known; beside one it is an outcome, `disputed` where it differs.

    What one source repeats of a prediction changes nothing.
    """
    source, content = _source_and_content(feedback)
    if (source, content) in join.feedback:
        return JoinStep(join)
    remembered = (*(f for f in join.feedback if f[0] != source), (source, content))[-REMEMBERED_PER_PREDICTION:]
    time_us = label_time_us(feedback)
    disputed = join.truth_is_label and not truth.same_as(join.truth)
    older = join.truth is not None and time_us < join.truth_time_us and has_own_time(feedback)
    if join.truth is None or not (join.truth_is_label or older):
        join = replace(join, truth=truth, truth_time_us=max(time_us, join.truth_time_us))
    else:
        truth = join.truth
    outcome = JoinedOutcome(prediction, feedback, truth, join.corrections, disputed)
    return JoinStep(replace(join, feedback=remembered, corrections=join.corrections + 1), [outcome])


def _source_and_content(feedback: LabelReceived) -> tuple[str, str]:
    """Hashes of who gave feedback (all without a source are one) and of its content."""
    data = feedback.data
    return id_hash(data.source or "").hex(), id_hash(json.dumps([data.label, data.correct])).hex()


def has_own_time(label: LabelReceived) -> bool:
    """Whether its sender gave a time; otherwise it carries the time of its arrival."""
    return label.time != label.data.received


def label_time_us(label: LabelReceived) -> int:
    """The time that orders labels, in microseconds since the epoch: its own, but never after its arrival."""
    return to_micros(min(label.time, label.data.received))


def resolve_truth(task: Task, prediction: Scalar, known: Truth | None, label: LabelReceived) -> Truth:
    """The truth by a label or feedback; raises ValueError for feedback that does not give one.

    `correct: false` of two classes means the other one. Of several, a different label known before stays; otherwise
    the label is open and the class rejected.
    """
    if label.data.label is not None:
        return Truth(label.data.label)
    if label.data.correct is True:
        return Truth(prediction)
    if label.data.correct is None or task == "regression":
        raise ValueError("feedback on a number needs `label`; `correct: false` does not give the right value")
    if task == "binary":
        return Truth(not prediction)
    if known is not None and known.label is not None and known.label != prediction:
        return known
    return Truth(None, rejected=prediction)
