"""What a label and a word of feedback must be to fit the loop's task: the same rules at every door, pure."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from everloop_features.observation import STRING_LIMIT, encodable, timestamp
from everloop_schemas.envelope import Scalar, derived_id
from everloop_schemas.ingest import LabelReceived
from everloop_schemas.loop import LabelSpec, LoopSpec
from everloop_schemas.names import ID_RULE, is_id
from everloop_shared.errors import FieldError

Kind = Literal["label", "feedback"]
COMMENT_LIMIT = 10_000
KEY_LIMIT = 256
KEYS: dict[str, tuple[str, ...]] = {
    "label": ("id", "label", "time", "key"),
    "feedback": ("id", "correct", "label", "comment", "source", "time", "key"),
}
WANTED = {
    "boolean": "true or false (or 1 or 0)",
    "integer": "a whole number of at most 64 bits",
    "number": "a finite number",
    "string": "text",
}


@dataclass(frozen=True)
class Word:
    """The truth about a prediction, or an opinion of it, checked. Exactly one of `label` and `correct` is set."""

    prediction_id: str
    kind: Kind
    label: Scalar | None
    correct: bool | None
    comment: str | None
    source: str | None
    time: datetime | None
    key: str | None = None

    def event_id(self, loop: str) -> str | None:
        """The same words under the same `key` are one event, however often they are sent; None without a key.

        Without one, each time they arrive counts: what repeats the latest changes nothing, wherever it is joined.
        """
        if self.key is None:
            return None
        said = [self.label, self.correct, self.source, self.comment, self.time and self.time.isoformat(), self.key]
        return derived_id(loop, LabelReceived.type_name(), self.prediction_id, self.kind, json.dumps(said))


def word(spec: LoopSpec, kind: Kind, body: Any) -> Word | list[FieldError]:
    """The label in `{"id", "label", "time"}`, or the feedback, or everything that is wrong with it."""
    if not isinstance(body, dict):
        return [FieldError("body", f"must be an object with id and {KEYS[kind][1]}")]
    errors = [FieldError(k[:80], f"is not known; use {', '.join(KEYS[kind])}") for k in body if k not in KEYS[kind]]
    errors += _identified(body.get("id")) + _said(spec, kind, body) + _texts(body)
    time = timestamp("time", body.get("time"))
    if isinstance(time, FieldError):
        return [*errors, time][:20]
    if errors:
        return errors[:20]
    label = None if body.get("label") is None else _plain(spec, body["label"])
    said = body.get("correct"), body.get("comment"), body.get("source")
    return Word(body["id"], kind, label, *said, time, body.get("key"))


def open_to_any_revision(spec: LoopSpec) -> LoopSpec:
    """A spec as wide as any revision of it can have been: of the same task and type, with any classes and bounds."""
    return spec.model_copy(update={"label": LabelSpec(type=spec.label_type)})


def fits(spec: LoopSpec, label: Any) -> bool:
    """Whether this may be a label of the loop."""
    return _fits(spec, label) and _outside(spec, label) is None


def spelt(spec: LoopSpec, label: Scalar) -> bool:
    """Whether a label fits and is in the one spelling that goes on the log."""
    if type(label) is bool and spec.label.classes is None:
        return spec.label_type == "boolean"
    return fits(spec, label) and type(_plain(spec, label)) is type(label)


def _identified(value: Any) -> list[FieldError]:
    return [] if is_id(value) else [FieldError("id", f"must be the event's id, {ID_RULE}")]


def _said(spec: LoopSpec, kind: Kind, body: dict[str, Any]) -> list[FieldError]:
    label, correct = body.get("label"), body.get("correct")
    if kind == "label" or label is not None:
        if correct is not None and kind == "feedback":
            return [FieldError("correct", "is said beside label; send one of the two")]
        wrong = _wrong(spec, label)
        return [FieldError("label", wrong)] if wrong else []
    if spec.task == "regression":
        return [FieldError("label", f"is missing; a regression loop asks for {WANTED[spec.label_type]}, not correct")]
    if correct is None:
        return [FieldError("correct", "is missing; send true or false, or the right class as label")]
    return [] if isinstance(correct, bool) else [FieldError("correct", "must be true or false")]


def _wrong(spec: LoopSpec, label: Any) -> str | None:
    if label is None:
        return f"is missing; send {_wanted(spec)}"
    return _outside(spec, label) if _fits(spec, label) else f"must be {_wanted(spec)}"


def _fits(spec: LoopSpec, label: Any) -> bool:
    if spec.label.classes is not None:
        return any(type(label) is type(c) and label == c for c in spec.label.classes)
    match spec.label_type:
        case "boolean":
            return isinstance(label, bool) or (type(label) is int and label in (0, 1))
        case "integer":
            return _integer(label)
        case "number":
            return (type(label) is float and math.isfinite(label)) or _integer(label)
        case _:
            return isinstance(label, str) and 1 <= len(label) <= STRING_LIMIT and encodable(label)


def _outside(spec: LoopSpec, label: Any) -> str | None:
    """What keeps a label out that fits otherwise: it is reserved, or beyond a bound of the loop's spec."""
    if spec.unknown is not None and label == spec.unknown:
        return f"must be a class; {json.dumps(label)} is reserved for what is predicted before any class is known"
    lowest, highest = spec.label_bounds
    if lowest is not None and label < lowest:
        return f"must be at least {lowest:g}"
    if highest is not None and label > highest:
        return f"must be at most {highest:g}"
    return None


def _integer(label: Any) -> bool:
    return type(label) is int and -(2**63) <= label < 2**63


def _wanted(spec: LoopSpec) -> str:
    if spec.label.classes is not None:
        return "one of " + ", ".join(json.dumps(c, ensure_ascii=False) for c in spec.label.classes[:20])
    return WANTED[spec.label_type]


def _plain(spec: LoopSpec, label: Scalar) -> Scalar:
    """1 and 0 are true and false, 3 is 3.0 where the loop says so: one truth, one spelling on the log."""
    if spec.label.classes is not None:
        return label
    match spec.label_type:
        case "boolean":
            return bool(label)
        case "number":
            return float(label)
        case _:
            return label


def _texts(body: dict[str, Any]) -> list[FieldError]:
    return [
        FieldError(name, f"must be text of at most {limit:,} characters")
        for name, limit in (("comment", COMMENT_LIMIT), ("source", STRING_LIMIT), ("key", KEY_LIMIT))
        if body.get(name) is not None and not (isinstance(body[name], str) and len(body[name]) <= limit)
    ]
