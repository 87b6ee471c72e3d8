"""What a label or feedback on a prediction makes of what is known of its truth; pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from everloop_feature.domain import id_hash
from everloop_feature.join import Join, Truth
from everloop_features.times import later, micros
from everloop_schemas.envelope import Scalar
from everloop_schemas.ingest import LabelReceived
from everloop_schemas.loop import Task
from everloop_schemas.serving import PredictionMade

Words = tuple[str, ...]
WORDS_REMEMBERED = 16
"""Labels and feedback, and sources of feedback, that a prediction remembers."""


@dataclass(frozen=True)
class Outcome:
    """What is known of a prediction after a word on it; `correction` counts the outcomes before this one.

    `disputed`: the word is feedback that contradicts a label, and the label stays.
    """

    truth: Truth
    correction: int
    word: LabelReceived
    disputed: bool = False


def heard(join: Join, task: Task, made: PredictionMade, word: LabelReceived) -> tuple[Join, Outcome | None]:
    """The join after a label or feedback on its prediction; no outcome where it says nothing new.

    Of labels the one with the latest time stands, of equal times the one that came last. Feedback is the truth only
    where no label is known: beside one it is counted, and disputed where it says otherwise.
    """
    mark = id_hash(word.id).hex()
    if mark in join.words:
        return join, None
    told = resolve(task, made.data.prediction, join.truth, word)
    words = (*join.words, mark)[-WORDS_REMEMBERED:]
    return _labelled(join, words, told, word) if word.data.kind == "label" else _opined(join, words, told, word)


def _labelled(join: Join, words: Words, told: Truth, word: LabelReceived) -> tuple[Join, Outcome | None]:
    """A label that is older than the one known changes nothing, nor does one that repeats it."""
    as_of = stated_at(word)
    if join.by_label and as_of < join.as_of and has_own_time(word):
        return replace(join, words=words), None
    confirmed = join.by_label and join.truth is not None and same(told, join.truth)
    known = replace(
        join,
        words=words,
        truth=told,
        as_of=max(as_of, join.as_of),
        by_label=True,
        corrections=join.corrections + (not confirmed),
    )
    return known, None if confirmed else Outcome(told, join.corrections, word)


def _opined(join: Join, words: Words, told: Truth, word: LabelReceived) -> tuple[Join, Outcome | None]:
    """Feedback counts whatever it says, but once for each source until that says otherwise."""
    voice, said = _voice(word)
    if (voice, said) in join.voices:
        return replace(join, words=words), None
    voices = (*(v for v in join.voices if v[0] != voice), (voice, said))[-WORDS_REMEMBERED:]
    as_of, disputed = stated_at(word), join.by_label and join.truth is not None and not same(told, join.truth)
    if not join.by_label and not (join.truth and as_of < join.as_of and has_own_time(word)):
        join = replace(join, truth=told, as_of=max(as_of, join.as_of))
    assert join.truth is not None, "what is known, or what was said"
    outcome = Outcome(join.truth, join.corrections, word, disputed)
    return replace(join, words=words, voices=voices, corrections=join.corrections + 1), outcome


def _voice(word: LabelReceived) -> tuple[str, str]:
    """Marks of who gave feedback (the nameless are one source) and of what was said."""
    data = word.data
    return id_hash(data.source or "").hex(), id_hash(json.dumps([data.label, data.correct])).hex()


def has_own_time(word: LabelReceived) -> bool:
    """Whether its sender said when it was true; else it carries the door's time."""
    return word.time != word.data.received


def stated_at(word: LabelReceived) -> int:
    """The time by which it is ordered, in microseconds since the epoch: its own, but never after it came."""
    return micros(min(word.time, word.data.received))


def same(a: Truth, b: Truth) -> bool:
    """Whether two truths are one, types included: true is not 1."""
    return a == b and type(a.label) is type(b.label)


def resolve(task: Task, prediction: Scalar, known: Truth | None, word: LabelReceived) -> Truth:
    """What a word says about the truth; raises ValueError where it says nothing.

    `correct: false` means "not this": of two classes the other one; of several, a different label known before
    stays, else the label is open and the class rejected.
    """
    if word.data.label is not None:
        return Truth(word.data.label)
    if word.data.correct is True:
        return Truth(prediction)
    if word.data.correct is None or task == "regression":
        raise ValueError("feedback on a number needs `label`; `correct: false` does not say what was right")
    if task == "binary":
        return Truth(not prediction)
    if known is not None and known.label is not None and known.label != prediction:
        return known
    return Truth(None, rejected=prediction)


def too_late(made: PredictionMade, word: LabelReceived, within_s: float) -> bool:
    """Whether a label's own time is later than `within_s` after the observation.

    A label without a time of its own is as late as it arrived, which is the log's matter: it finds the prediction,
    or the prediction is forgotten by then.
    """
    return has_own_time(word) and later(word.time, made.data.observed, within_s)
