"""What an observation must look like to fit a loop's schema: the same rules at every door, pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from everloop_schemas.envelope import Fields, Scalar
from everloop_schemas.loop import FieldSpec, LoopSpec
from everloop_schemas.names import ID_RULE, is_id
from everloop_shared.errors import FieldError

DEFAULT_ENTITY = "default"
STRING_LIMIT = 1_000
ERRORS_LIMIT = 20
INTEGER_LIMIT = 2**63
KEYS = ("id", "entity", "time", "data")
KNOWN = frozenset(KEYS)
ANY_VALUE = {"min": None, "max": None, "enum": None}


@dataclass(frozen=True)
class Observation:
    """An event as an application sends it, checked; `id` and `time` are None where it left them out."""

    id: str | None
    entity: str
    time: datetime | None
    fields: Fields


def observe(spec: LoopSpec, body: Any) -> Observation | list[FieldError]:
    """The observation in `{"id", "entity", "time", "data"}`, or everything that is wrong with it."""
    if not isinstance(body, dict):
        return [FieldError("body", f"must be an object with data, is {_kind(body)}")]
    errors = []
    if not body.keys() <= KNOWN:
        errors = [FieldError(_name(k), f"is not known; use {', '.join(KEYS)}") for k in body if k not in KEYS]
    errors += [e for k in ("id", "entity") if (e := _identifier(k, body.get(k)))]
    time = timestamp("time", body.get("time"))
    if isinstance(time, FieldError):
        errors.append(time)
    fields = validate(spec, body.get("data"))
    if isinstance(fields, list):
        errors += fields
    if errors or isinstance(fields, list) or isinstance(time, FieldError):
        return errors[:ERRORS_LIMIT]
    return Observation(body.get("id"), body.get("entity") or DEFAULT_ENTITY, time, fields)


def validate(spec: LoopSpec, data: Any) -> Fields | list[FieldError]:
    """The fields of an observation in the schema's order, or what is wrong, by path (`data.<field>`).

    Types are strict: a number is an int or a float, never a bool or text; NaN and infinity never pass.
    """
    if not isinstance(data, dict):
        return [FieldError("data", f"must be an object of field: value, is {_kind(data)}")]
    errors = []
    if not data.keys() <= spec.fields.keys():
        unknown = [k for k in data if k not in spec.fields]
        errors += [FieldError(f"data.{_name(k)}", "is not in the loop's schema; leave it out") for k in unknown]
    fields: Fields = {}
    for name, field in spec.fields.items():
        value: Any = data.get(name)
        fields[name] = value
        fits = field.ranges.get(type(value))
        if fits is not None and fits[0] <= value <= fits[1]:  # nearly always: what follows is for what is left
            continue
        if wrong := _missing(field) if value is None else _wrong(field, value):
            errors.append(FieldError(f"data.{name}", wrong))
    return errors[:ERRORS_LIMIT] or fields


def fingerprint(entity: str, fields: Fields, time: datetime | None) -> str:
    """What tells observations under one id apart: 16 hex digits of entity, fields and the time given, None without one.

    1 and 1.0 are one number, and a field that is missing is as if the schema had none.
    """
    said = [(name, _plain(fields[name])) for name in sorted(fields) if fields[name] is not None]
    whole = repr((entity, said, None if time is None else time.timestamp()))
    return blake2b(whole.encode(), digest_size=8).hexdigest()


def _plain(value: Scalar | None) -> Scalar | None:
    return int(value) if type(value) is float and value.is_integer() else value


def adapt(spec: LoopSpec, data: Fields) -> Fields | list[FieldError]:
    """The fields of an observation that another revision let in: none unknown, each of its type or missing."""
    fields: Fields = {name: data.get(name) for name in spec.fields}
    kinds = {name: field.model_copy(update=ANY_VALUE) for name, field in spec.fields.items()}
    wrong = [(name, _wrong(kinds[name], value)) for name, value in fields.items() if value is not None]
    return [FieldError(f"data.{name}", error) for name, error in wrong if error][:ERRORS_LIMIT] or fields


def timestamp(field: str, value: Any) -> datetime | FieldError | None:
    """The time in an RFC 3339 text, in UTC; None where there is none."""
    if value is None:
        return None
    wrong = FieldError(field, "must be an RFC 3339 time with an offset, such as 2024-05-01T12:00:00Z")
    if not isinstance(value, str) or len(value) > 64:
        return wrong
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else wrong
    except (ValueError, OverflowError):
        return wrong


def _identifier(field: str, value: Any) -> FieldError | None:
    return None if value is None or is_id(value) else FieldError(field, f"must be {ID_RULE}, or left out")


def _missing(field: FieldSpec) -> str | None:
    return None if field.missing == "null" else f"is missing; send {_article(field)}"


def _wrong(field: FieldSpec, value: Any) -> str | None:
    if not _fits(field, value):
        return f"must be {_article(field)}, is {_kind(value)}"
    if isinstance(value, str) and len(value) > STRING_LIMIT:
        return f"must have at most {STRING_LIMIT:,} characters, has {len(value):,}"
    if field.enum is not None and value not in field.enum:
        return f"must be one of {', '.join(map(_word, field.enum[:20]))}"
    if field.min is not None and value < field.min:
        return f"must be at least {field.min:g}"
    if field.max is not None and value > field.max:
        return f"must be at most {field.max:g}"
    return None


def _fits(field: FieldSpec, value: Any) -> bool:
    match field.type:
        case "number":
            return (type(value) is float and math.isfinite(value)) or _integer(value)
        case "integer":
            return _integer(value)
        case "boolean":
            return isinstance(value, bool)
        case "string":
            return isinstance(value, str) and encodable(value)


def _integer(value: Any) -> bool:
    return type(value) is int and -INTEGER_LIMIT <= value < INTEGER_LIMIT


def encodable(text: str) -> bool:
    """Half a surrogate pair can be written in JSON, but not in UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _article(field: FieldSpec) -> str:
    return {
        "number": "a finite number",
        "integer": "a whole number of at most 64 bits",
        "boolean": "true or false",
        "string": "text",
    }[field.type]


def _kind(value: Any) -> str:
    match value:
        case None:
            return "missing"
        case bool():
            return "true or false"
        case int():
            return "a whole number" if _integer(value) else "a number of more than 64 bits"
        case float():
            return "a number" if math.isfinite(value) else "not finite"
        case str():
            return "text" if encodable(value) else "text that is not Unicode"
        case list() | tuple():
            return "a list"
    return "an object"


def _name(key: Any) -> str:
    return str(key)[:80].encode(errors="replace").decode()


def _word(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
