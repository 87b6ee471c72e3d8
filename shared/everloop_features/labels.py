"""Checks labels and feedback against a loop's task: the same rules wherever they enter; pure."""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import Any, Literal

import msgspec

from everloop_features.observation import ERRORS_LIMIT, STRING_LIMIT, is_encodable, parse_time
from everloop_schemas.envelope import Scalar, derived_id
from everloop_schemas.ingest import LabelReceived
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import LabelSpec
from everloop_schemas.names import ID_RULE, is_id
from everloop_shared.errors import FieldError

LabelKind = Literal["label", "feedback"]
COMMENT_LIMIT = 10_000
KEY_LIMIT = 256
KEYS: dict[str, tuple[str, ...]] = {
    "label": ("id", "label", "time", "key"),
    "feedback": ("id", "correct", "label", "comment", "source", "time", "key"),
}
PLAIN_KEYS = {"id", "label"}
EXPECTED = {
    "boolean": "true or false (or 1 or 0)",
    "integer": "a whole number of at most 64 bits",
    "number": "a finite number",
    "string": "text",
}


class CheckedLabel(msgspec.Struct, frozen=True):
    """A label or feedback that fits its loop. Exactly one of `label` and `correct` is set."""

    prediction_id: str
    kind: LabelKind
    label: Scalar | None
    correct: bool | None = None
    comment: str | None = None
    source: str | None = None
    time: datetime | None = None
    key: str | None = None

    def event_id(self, loop: str) -> str | None:
        """The event id that follows from content and `key`, so that a retry is the same event; None without a key.

        Without a key each arrival is an event of its own; the label join ignores one that repeats the latest.
        """
        if self.key is None:
            return None
        content = [self.label, self.correct, self.source, self.comment, self.time and self.time.isoformat(), self.key]
        return derived_id(loop, LabelReceived.type_name(), self.prediction_id, self.kind, json.dumps(content))


def check_label(spec: LoopSpec, kind: LabelKind, body: Any) -> CheckedLabel | list[FieldError]:
    """The label in `{"id", "label", "time"}`, or the feedback, or every error in it."""
    if not isinstance(body, dict):
        return [FieldError("body", f"must be an object with id and {KEYS[kind][1]}")]
    if kind == "label" and body.keys() == PLAIN_KEYS and is_id(body["id"]) and is_valid_label(spec, body["label"]):
        return CheckedLabel(body["id"], kind, normalise_label(spec, body["label"]))  # nearly always
    errors = [FieldError(k[:80], f"is not known; use {', '.join(KEYS[kind])}") for k in body if k not in KEYS[kind]]
    errors += _id_errors(body.get("id")) + _answer_errors(spec, kind, body) + _text_errors(body)
    time = parse_time("time", body.get("time"))
    if isinstance(time, FieldError):
        return [*errors, time][:ERRORS_LIMIT]
    if errors:
        return errors[:ERRORS_LIMIT]
    label = None if body.get("label") is None else normalise_label(spec, body["label"])
    feedback = body.get("correct"), body.get("comment"), body.get("source")
    return CheckedLabel(body["id"], kind, label, *feedback, time, body.get("key"))


def widen_label_rules(spec: LoopSpec) -> LoopSpec:
    """The spec without the classes and bounds of its label, in which revisions differ; its type never changes."""
    return spec.model_copy(update={"label": LabelSpec(type=spec.label_type)})


def is_valid_label(spec: LoopSpec, label: Any) -> bool:
    """Whether this can be a label of the loop."""
    return _has_label_type(spec, label) and _bound_error(spec, label) is None


def is_normalised_label(spec: LoopSpec, label: Scalar) -> bool:
    """Whether a label is valid and of the type in which it is published (see `normalise_label`)."""
    if type(label) is bool and spec.label.classes is None:
        return spec.label_type == "boolean"
    return is_valid_label(spec, label) and type(normalise_label(spec, label)) is type(label)


def _id_errors(value: Any) -> list[FieldError]:
    return [] if is_id(value) else [FieldError("id", f"must be the event's id, {ID_RULE}")]


def _answer_errors(spec: LoopSpec, kind: LabelKind, body: dict[str, Any]) -> list[FieldError]:
    label, correct = body.get("label"), body.get("correct")
    if kind == "label" or label is not None:
        if correct is not None and kind == "feedback":
            return [FieldError("correct", "is sent beside label; send one of the two")]
        wrong = _label_error(spec, label)
        return [FieldError("label", wrong)] if wrong else []
    if spec.task == "regression":
        return [FieldError("label", f"is missing; a regression loop asks for {EXPECTED[spec.label_type]}, not correct")]
    if correct is None:
        return [FieldError("correct", "is missing; send true or false, or the right class as label")]
    return [] if isinstance(correct, bool) else [FieldError("correct", "must be true or false")]


def _label_error(spec: LoopSpec, label: Any) -> str | None:
    if label is None:
        return f"is missing; send {_expected(spec)}"
    return _bound_error(spec, label) if _has_label_type(spec, label) else f"must be {_expected(spec)}"


def _has_label_type(spec: LoopSpec, label: Any) -> bool:
    if spec.label.classes is not None:
        return any(type(label) is type(c) and label == c for c in spec.label.classes)
    match spec.label_type:
        case "boolean":
            return isinstance(label, bool) or (type(label) is int and label in (0, 1))
        case "integer":
            return _is_integer(label)
        case "number":
            return (type(label) is float and math.isfinite(label)) or _is_integer(label)
        case _:
            return isinstance(label, str) and 1 <= len(label) <= STRING_LIMIT and is_encodable(label)


def _bound_error(spec: LoopSpec, label: Any) -> str | None:
    """Why a label of the right type is invalid: it is reserved, or out of the spec's bounds; None where it is valid."""
    if spec.unknown_class is not None and label == spec.unknown_class:
        return f"must be a class; {json.dumps(label)} is reserved for what is predicted before any class is known"
    lowest, highest = spec.label_bounds
    if lowest is not None and label < lowest:
        return f"must be at least {lowest:g}"
    if highest is not None and label > highest:
        return f"must be at most {highest:g}"
    return None


def _is_integer(label: Any) -> bool:
    return type(label) is int and -(2**63) <= label < 2**63


def _expected(spec: LoopSpec) -> str:
    if spec.label.classes is not None:
        return "one of " + ", ".join(json.dumps(c, ensure_ascii=False) for c in spec.label.classes[:20])
    return EXPECTED[spec.label_type]


def normalise_label(spec: LoopSpec, label: Scalar) -> Scalar:
    """The label in the type of the loop (1 becomes true or 1.0), so that equal labels are published alike."""
    if spec.label.classes is not None:
        return label
    match spec.label_type:
        case "boolean":
            return bool(label)
        case "number":
            return float(label)
        case _:
            return label


def _text_errors(body: dict[str, Any]) -> list[FieldError]:
    return [
        FieldError(name, f"must be text of at most {limit:,} characters")
        for name, limit in (("comment", COMMENT_LIMIT), ("source", STRING_LIMIT), ("key", KEY_LIMIT))
        if body.get(name) is not None and not (isinstance(body[name], str) and len(body[name]) <= limit)
    ]
