"""Pure rules: what an entity remembers, and how a prediction and the words on it become outcomes."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import blake2b
from typing import Any, Literal

from everloop_features import FeaturePlan, State
from everloop_features.times import later, micros
from everloop_schemas.envelope import Fields, Scalar
from everloop_schemas.ingest import LabelReceived
from everloop_schemas.loop import Task
from everloop_schemas.serving import PredictionMade
from everloop_shared.messaging.routes import Position

ID_BYTES = 8
"""An id is remembered by this much of its hash: a new one is taken for one of 20,000 once in 10^15 times."""
MARK_BYTES = 2
"""And what was said under it by this much of its fingerprint: other data is taken for the same once in 65,536 times."""
ENTRY_BYTES = ID_BYTES + MARK_BYTES
UNMARKED = bytes(MARK_BYTES)
Seen = Literal["new", "same", "other"]
PAGE_IDS = 256
"""Ids that stay with the entity's state; a full page of them is put aside, so that each write stays small."""
WORDS_REMEMBERED = 16
"""Ids of labels and feedback that a prediction remembers as applied."""
WORDS_WAITING, BYTES_WAITING = 20, 64_000
"""Labels and feedback that wait for one prediction, at most."""


def _dumps(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def id_hash(event_id: str) -> bytes:
    """What is remembered of an id."""
    return blake2b(event_id.encode(), digest_size=ID_BYTES).digest()


def seen_under(page: bytes, event_id: str, mark: bytes) -> Seen:
    """Whether an id is on a page, and with the same mark of what was said under it.

    A full page of before there were marks is shorter. Without a mark (`UNMARKED`) what was said counts as the same.
    """
    width = ID_BYTES if len(page) == PAGE_IDS * ID_BYTES else ENTRY_BYTES
    wanted, start = id_hash(event_id), 0
    while (at := page.find(wanted, start)) >= 0:
        if at % width == 0:
            marked = page[at + ID_BYTES : at + width]
            return "same" if marked in (b"", UNMARKED, mark) else "other"
        start = at + 1
    return "new"


def marked(ids: bytes) -> bytes:
    """A page of ids of before there were marks, as one of today."""
    return b"".join(ids[i : i + ID_BYTES] + UNMARKED for i in range(0, len(ids), ID_BYTES))


@dataclass(frozen=True)
class Entity:
    """One entity of a loop: its windows, its last vector, and the page of ids it has seen last, newest last.

    `pages` counts the full pages put aside. `life` is that of the loop, as the revision it began with: in another,
    the entity is new.
    """

    applied: int = 0
    state: State = field(default_factory=dict)
    features: Fields = field(default_factory=dict)
    ids: bytes = b""
    pages: int = 0
    life: int = 1

    @property
    def page_is_full(self) -> bool:
        """Whether the page is to be put aside before the next observation."""
        return len(self.ids) >= PAGE_IDS * ENTRY_BYTES

    def turn_page(self) -> Entity:
        """With an empty page."""
        return replace(self, ids=b"", pages=self.pages + 1)

    def observe(
        self,
        plan: FeaturePlan,
        event_id: str,
        fields: Mapping[str, Scalar | None],
        time: datetime,
        received: datetime | None = None,
        mark: bytes = UNMARKED,
    ) -> Entity:
        """The entity after an observation made at `time` that came at `received`; `mark` tells what it said."""
        state, features = plan.apply(self.state, fields, time, received)
        return Entity(self.applied + 1, state, features, self.ids + id_hash(event_id) + mark, self.pages, self.life)

    def labelled(self, plan: FeaturePlan, label: Scalar, observed: datetime, correction: int) -> Entity:
        """The entity once a label of its own is known; the same where it is no news."""
        return replace(self, state=plan.label(self.state, label, observed, correction))

    def dump(self) -> bytes:
        """The value to keep."""
        ids = b64encode(self.ids).decode()
        return _dumps([self.applied, self.state, self.features, ids, self.pages, self.life, ENTRY_BYTES])

    @classmethod
    def load(cls, value: bytes | None) -> Entity:
        """The entity from its value; a new one from None."""
        if value is None:
            return cls()
        applied, state, features, ids, pages, *rest = json.loads(value)
        page = b64decode(ids)
        return cls(applied, state, features, page if len(rest) > 1 else marked(page), pages, *rest[:1])


@dataclass(frozen=True)
class Waiting:
    """A label or feedback with where it lay on the log, so that its dead letter can say so."""

    event: dict[str, Any]
    at: Position

    @property
    def label(self) -> LabelReceived:
        """The event."""
        return LabelReceived.model_validate(self.event)

    @classmethod
    def of(cls, event: LabelReceived, at: Position) -> Waiting:
        """An event that waits."""
        return cls(event.model_dump(mode="json", exclude_none=True), at)


@dataclass(frozen=True)
class Truth:
    """What is known of a prediction's truth: the label, or the class that it is not."""

    label: Scalar | None = None
    rejected: Scalar | None = None


@dataclass(frozen=True)
class Outcome:
    """What is known of a prediction after a word on it; `correction` counts the outcomes before this one.

    `disputed`: the word is feedback that contradicts a label, and the label stays.
    """

    truth: Truth
    correction: int
    word: LabelReceived
    disputed: bool = False


@dataclass(frozen=True)
class Join:
    """Both sides of one prediction id.

    `waiting` came before the prediction; `overdue` waited too long, and leave as dead letters. `words` are the
    hashes of the labels and feedback applied, `voices` of who gave feedback and what each said last. `as_of` is the
    time of what made the truth, in microseconds since the epoch, and `by_label` whether that was a label. It is
    forgotten at `due_ms`, in the broker's time.
    """

    due_ms: int
    prediction: dict[str, Any] | None = None
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
        return PredictionMade.model_validate(self.prediction) if self.prediction else None

    @property
    def revision(self) -> int:
        """That of its prediction, or of a label that waits; 0 where neither says."""
        said = self.prediction or next((w.event for w in (*self.waiting, *self.overdue)), {})
        return int(said.get("revision", 0))

    def dump(self) -> bytes:
        """The value to keep."""
        wait = [[_wait(w) for w in side] for side in (self.waiting, self.overdue)]
        truth = [self.truth.label, self.truth.rejected] if self.truth else None
        said = [self.words, self.voices, self.as_of, self.by_label]
        return _dumps([self.due_ms, self.prediction, *wait, truth, self.corrections, *said])

    @classmethod
    def load(cls, value: bytes) -> Join:
        """The join from its value; one from before labels and feedback were told apart knows its truth by a label."""
        due_ms, prediction, waiting, overdue, truth, corrections, words, *rest = json.loads(value)
        voices, as_of, by_label = rest or ((), 0, truth is not None)
        return cls(
            due_ms=due_ms,
            prediction=prediction,
            waiting=tuple(Waiting(event, Position(*at)) for event, at in waiting),
            overdue=tuple(Waiting(event, Position(*at)) for event, at in overdue),
            truth=Truth(*truth) if truth else None,
            corrections=corrections,
            words=tuple(words),
            voices=tuple((voice, said) for voice, said in voices),
            as_of=as_of,
            by_label=by_label,
        )

    def predicted(self, event: PredictionMade) -> Join:
        """With the prediction there."""
        return replace(self, prediction=event.model_dump(mode="json", exclude_none=True), waiting=())

    def wait(self, word: Waiting) -> tuple[Join, list[Waiting]]:
        """With one more label or feedback that waits for the prediction, and what has to make room for it.

        The oldest feedback goes first, then the oldest label, but never the one that came.
        """
        if any(w.event["id"] == word.event["id"] for w in self.waiting):
            return self, []
        waiting, dropped = [*self.waiting, word], list[Waiting]()
        while len(waiting) > WORDS_WAITING or (len(waiting) > 1 and sum(map(_size, waiting)) > BYTES_WAITING):
            kinds = [w.event["data"]["kind"] for w in waiting[:-1]]
            dropped.append(waiting.pop(kinds.index("feedback") if "feedback" in kinds else 0))
        return replace(self, waiting=tuple(waiting)), dropped

    def overdue_now(self) -> Join:
        """With the labels that wait given up; they leave once this is safe, so that they never join after all."""
        return replace(self, waiting=(), overdue=(*self.overdue, *self.waiting))


def _size(word: Waiting) -> int:
    return len(_dumps(word.event))


def _wait(word: Waiting) -> list[object]:
    return [word.event, [word.at.topic, word.at.partition, word.at.offset, word.at.timestamp]]


def heard(join: Join, task: Task, made: PredictionMade, word: LabelReceived) -> tuple[Join, Outcome | None]:
    """The join after a label or feedback on its prediction; no outcome where it says nothing new.

    Of labels the one with the latest time stands, of equal times the one that came last. Feedback is the truth only
    where no label is known: beside one it is counted, and disputed where it says otherwise.
    """
    mark = id_hash(word.id).hex()
    if mark in join.words:
        return join, None
    told = resolve(task, made.data.prediction, join.truth, word)
    join = replace(join, words=(*join.words, mark)[-WORDS_REMEMBERED:])
    return _labelled(join, told, word) if word.data.kind == "label" else _opined(join, told, word)


def _labelled(join: Join, told: Truth, word: LabelReceived) -> tuple[Join, Outcome | None]:
    """A label that is older than the one known changes nothing, nor does one that repeats it."""
    as_of = stated_at(word)
    if join.by_label and as_of < join.as_of and has_own_time(word):
        return join, None
    confirmed = join.by_label and join.truth is not None and same(told, join.truth)
    join = replace(join, truth=told, as_of=max(as_of, join.as_of), by_label=True)
    if confirmed:
        return join, None
    return replace(join, corrections=join.corrections + 1), Outcome(told, join.corrections, word)


def _opined(join: Join, told: Truth, word: LabelReceived) -> tuple[Join, Outcome | None]:
    """Feedback counts whatever it says, but once for each source until that says otherwise."""
    voice, said = _voice(word)
    if (voice, said) in join.voices:
        return join, None
    voices = (*(v for v in join.voices if v[0] != voice), (voice, said))[-WORDS_REMEMBERED:]
    as_of, disputed = stated_at(word), join.by_label and join.truth is not None and not same(told, join.truth)
    if not join.by_label and not (join.truth and as_of < join.as_of and has_own_time(word)):
        join = replace(join, truth=told, as_of=max(as_of, join.as_of))
    assert join.truth is not None, "what is known, or what was said"
    outcome = Outcome(join.truth, join.corrections, word, disputed)
    return replace(join, voices=voices, corrections=join.corrections + 1), outcome


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
