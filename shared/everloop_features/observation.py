"""Checks observations against a loop's schema: the same rules wherever they enter; pure."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import msgspec

from everloop_schemas.envelope import Fields, Scalar
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import FieldSpec
from everloop_schemas.names import ID_RULE, is_id
from everloop_shared.clock import read_time
from everloop_shared.errors import FieldError

DEFAULT_ENTITY = "default"
STRING_LIMIT = 1_000
ERRORS_LIMIT = 20
INTEGER_LIMIT = 2**63
KEYS = ("id", "entity", "time", "data")
KNOWN_KEYS = frozenset(KEYS)
ANY_VALUE = {"min": None, "max": None, "enum": None}


class Observation(msgspec.Struct, frozen=True, omit_defaults=True):
    """An observation that fits its loop; `id` and `time` are None where the application left them out.

    `explain` asks for an explanation of the prediction; only serving reads it.
    """

    id: str | None
    entity: str
    time: datetime | None
    fields: Fields
    explain: bool = False


def check_observation(spec: LoopSpec, body: Any) -> Observation | list[FieldError]:
    """The observation in `{"id", "entity", "time", "data"}`, or every error in it."""
    if not isinstance(body, dict):
        return [FieldError("body", f"must be an object with data, is {_describe(body)}")]
    errors = []
    if not body.keys() <= KNOWN_KEYS:
        errors = [FieldError(_shortened(k), f"is not known; use {', '.join(KEYS)}") for k in body if k not in KEYS]
    errors += [e for k in ("id", "entity") if (e := _id_error(k, body.get(k)))]
    time = parse_time("time", body.get("time"))
    if isinstance(time, FieldError):
        errors.append(time)
    fields = check_fields(spec, body.get("data"))
    if isinstance(fields, list):
        errors += fields
    if errors or isinstance(fields, list) or isinstance(time, FieldError):
        return errors[:ERRORS_LIMIT]
    return Observation(body.get("id"), body.get("entity") or DEFAULT_ENTITY, time, fields)


def check_fields(spec: LoopSpec, data: Any) -> Fields | list[FieldError]:
    """The fields of an observation in the schema's order, or the errors by path (`data.<field>`).

    Types are strict: a number is an int or a float, never a bool or text; NaN and infinity never pass.
    """
    if not isinstance(data, dict):
        return [FieldError("data", f"must be an object of field: value, is {_describe(data)}")]
    errors = []
    if not data.keys() <= spec.fields.keys():
        unknown = [k for k in data if k not in spec.fields]
        errors += [FieldError(f"data.{_shortened(k)}", "is not in the loop's schema; leave it out") for k in unknown]
    fields: Fields = {}
    for name, field in spec.fields.items():
        value: Any = data.get(name)
        fields[name] = value
        bounds = field.ranges.get(type(value))
        if bounds is not None and bounds[0] <= value <= bounds[1]:  # nearly always; the checks below are slow
            continue
        if wrong := _missing_error(field) if value is None else _value_error(field, value):
            errors.append(FieldError(f"data.{name}", wrong))
    return errors[:ERRORS_LIMIT] or fields


def adapt_fields(spec: LoopSpec, data: Fields) -> Fields | list[FieldError]:
    """The fields of an observation that another revision accepted: known fields only, each of its type or missing."""
    fields: Fields = {name: data.get(name) for name in spec.fields}
    kinds = {name: field.model_copy(update=ANY_VALUE) for name, field in spec.fields.items()}
    wrong = [(name, _value_error(kinds[name], value)) for name, value in fields.items() if value is not None]
    return [FieldError(f"data.{name}", error) for name, error in wrong if error][:ERRORS_LIMIT] or fields


def parse_time(field: str, value: Any) -> datetime | FieldError | None:
    """The time in an RFC 3339 text, in UTC; None without one, and an error where the text is none."""
    if value is None:
        return None
    moment = read_time(value) if isinstance(value, str) else None
    return moment or FieldError(field, "must be an RFC 3339 time with an offset, such as 2024-05-01T12:00:00Z")


def _id_error(field: str, value: Any) -> FieldError | None:
    return None if value is None or is_id(value) else FieldError(field, f"must be {ID_RULE}, or left out")


def _missing_error(field: FieldSpec) -> str | None:
    return None if field.missing == "null" else f"is missing; send {_expected(field)}"


def _value_error(field: FieldSpec, value: Any) -> str | None:
    if not _has_type(field, value):
        return f"must be {_expected(field)}, is {_describe(value)}"
    if isinstance(value, str) and len(value) > STRING_LIMIT:
        return f"must have at most {STRING_LIMIT:,} characters, has {len(value):,}"
    if field.enum is not None and value not in field.enum:
        return f"must be one of {', '.join(map(_printed_value, field.enum[:20]))}"
    if field.min is not None and value < field.min:
        return f"must be at least {field.min:g}"
    if field.max is not None and value > field.max:
        return f"must be at most {field.max:g}"
    return None


def _has_type(field: FieldSpec, value: Any) -> bool:
    match field.type:
        case "number":
            return (type(value) is float and math.isfinite(value)) or _is_integer(value)
        case "integer":
            return _is_integer(value)
        case "boolean":
            return isinstance(value, bool)
        case "string":
            return isinstance(value, str) and is_encodable(value)


def _is_integer(value: Any) -> bool:
    return type(value) is int and -INTEGER_LIMIT <= value < INTEGER_LIMIT


def is_encodable(text: str) -> bool:
    """Whether a text can be written in UTF-8: half a surrogate pair can be written in JSON only."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _expected(field: FieldSpec) -> str:
    return {
        "number": "a finite number",
        "integer": "a whole number of at most 64 bits",
        "boolean": "true or false",
        "string": "text",
    }[field.type]


def _describe(value: Any) -> str:
    match value:
        case None:
            return "missing"
        case bool():
            return "true or false"
        case int():
            return "a whole number" if _is_integer(value) else "a number of more than 64 bits"
        case float():
            return "a number" if math.isfinite(value) else "not finite"
        case str():
            return "text" if is_encodable(value) else "text that is not Unicode"
        case list() | tuple():
            return "a list"
    return "an object"


def _shortened(key: Any) -> str:
    return str(key)[:80].encode(errors="replace").decode()


def _printed_value(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
