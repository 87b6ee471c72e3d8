"""Reads a loop file, YAML or JSON, into a LoopSpec, or names everything that is wrong with it, by field."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from itertools import chain, islice
from typing import Any

from pydantic import BaseModel, ValidationError

from everloop_registry.domain.spec_rules import INTEGER_LIMIT, UNSUPPORTED, broken_rules, unsupported_fields
from everloop_registry.errors import SpecRejected
from everloop_schemas import loop_parts as parts
from everloop_schemas import monitor_spec, sources
from everloop_schemas.loop import LoopSpec
from everloop_schemas.names import FIELD_NAME, LOOP_NAME, LOOP_NAME_RULE
from everloop_schemas.search_spec import PARAMETER_PATH, SearchSpec
from everloop_shared import strict_json
from everloop_shared.errors import ERRORS_LIMIT, FieldError
from everloop_shared.text import is_readable
from everloop_shared.yaml_core import MAX_DEPTH, read_yaml

MAX_NODES = 16_000
"""The limit of values, lists and objects in a loop file."""
MAX_KEY_CHARACTERS = 100
SPEC_PARTS: dict[str, type[BaseModel]] = {
    "": LoopSpec,
    "schema": parts.FieldSpec,
    "features": parts.FeatureSpec,
    "label": parts.LabelSpec,
    "refresh": parts.RefreshSpec,
    "retrain": parts.RetrainSpec,
    "gate": parts.GateSpec,
    "rollout": parts.RolloutSpec,
    "monitor": monitor_spec.MonitorSpec,
    "monitor.objectives": monitor_spec.ObjectivesSpec,
    "monitor.objectives.prediction": monitor_spec.ObjectiveSpec,
    "monitor.objectives.learned": monitor_spec.ObjectiveSpec,
    "monitor.objectives.recovered": monitor_spec.ObjectiveSpec,
    "expect": monitor_spec.ExpectationSpec,
    "alerts": monitor_spec.AlertRuleSpec,
    "search": SearchSpec,
    "sources": sources.SourceSpec,
    "sources.events": sources.EventMapping,
    "sources.events.time": sources.TimeMapping,
    "sources.labels": sources.LabelMapping,
    "sources.labels.time": sources.TimeMapping,
}
"""By path in the loop file, without indices, the class of its value."""
PATTERN_RULES = {
    LOOP_NAME: LOOP_NAME_RULE,
    FIELD_NAME: "must be letters, digits and _, not beginning with a digit, 63 at most",
    sources.TOPIC_NAME: "must be the name of a topic: letters, digits, ., _ and -, 249 at most",
    sources.FIELD_PATH: "must be a path in the record, names separated by dots, such as after.amount",
    PARAMETER_PATH: "must name a parameter by the place of its model, such as models.0.max_depth",
}


def read_spec(body: bytes, *, is_json: bool) -> LoopSpec:
    """The spec in a loop file; raises SpecRejected naming every field that is wrong and the fix. Blocks a while."""
    try:
        text = body.decode("utf-8-sig")  # a byte order mark adds nothing to UTF-8
    except UnicodeDecodeError as e:
        raise refused([FieldError("body", f"must be UTF-8: {e.reason} at byte {e.start:,}")]) from e
    try:
        raw = strict_json.read(body) if is_json else read_yaml(text)
    except RecursionError as e:
        raise refused([FieldError("body", f"is nested deeper than {MAX_DEPTH} levels")]) from e
    except ValueError as e:
        raise refused([FieldError("body", f"is {e}" if is_json else f"is not YAML: {e}")]) from e
    if not isinstance(raw, dict):
        raise refused([FieldError("body", "must be an object with loop, task and schema")])
    if unwritable := list(islice(_unwritable_values(raw), ERRORS_LIMIT)):
        raise refused(unwritable)
    unsupported = list(unsupported_fields(raw))
    supported = _without(raw, [e.field for e in unsupported])
    try:
        found = LoopSpec.model_validate(supported)
    except ValidationError as e:
        raise refused([*unsupported, *field_errors(e, supported)]) from e
    if broken := list(islice(chain(unsupported, broken_rules(found)), ERRORS_LIMIT)):
        raise refused(broken)
    return found


def _without(raw: dict[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    for part, _, name in (field.partition(".") for field in fields):
        raw = {**raw, part: {k: v for k, v in raw[part].items() if k != name}}
    return raw


def _unwritable_values(raw: Any) -> Iterator[FieldError]:
    """Characters, keys and numbers that no spec has anywhere, because they cannot be written and read again."""
    waiting: list[tuple[str, Any, int]] = [("", raw, 1)]
    nodes = 0
    while waiting:
        path, at, depth = waiting.pop()
        nodes += 1
        if nodes > MAX_NODES or depth > MAX_DEPTH:
            yield FieldError("body", f"has over {MAX_NODES:,} values or {MAX_DEPTH} levels; make it smaller")
            return
        if wrong := _unwritable_reason(at):
            yield FieldError(path or "body", wrong)
        elif isinstance(at, dict):
            for key, value in at.items():
                if not isinstance(key, str) or len(key) > MAX_KEY_CHARACTERS or _unwritable_reason(key):
                    rule = f"keys are text of at most {MAX_KEY_CHARACTERS} characters, in quotes if need be"
                    yield FieldError(path or "body", f"has the key {key!r:.40}; {rule}")
                else:
                    waiting.append((f"{path}.{key}" if path else key, value, depth + 1))
        elif isinstance(at, list):
            waiting += [(f"{path}.{i}", value, depth + 1) for i, value in enumerate(at)]


def _unwritable_reason(value: Any) -> str | None:
    if isinstance(value, int) and not -INTEGER_LIMIT <= value < INTEGER_LIMIT:
        return "must be a whole number of at most 64 bits"
    if isinstance(value, str) and not is_readable(value, but="\t\r\n"):
        return "has control characters or half of a surrogate pair; leave them out"
    return None


def field_errors(error: ValidationError, raw: Any) -> list[FieldError]:
    """pydantic's errors by dotted path as the file has it, one per field, each with the fix."""
    by_field: dict[str, list[str]] = {}
    for e in error.errors(include_url=False, include_context=True):
        if len(by_field) > ERRORS_LIMIT:
            break
        if e["type"] == "too_short" and e["input"]:
            continue  # its members are wrong, and have errors of their own
        field, message = _path(e["loc"], raw), _message(dict(e), raw)
        if field == "body" and (named := message.partition(": "))[1] and named[0].split(".")[0] in _names(""):
            field, message = named[0], named[2]
        messages = by_field.setdefault(field, [])
        if message not in messages:
            messages.append(message)
    return [FieldError(field, "; or ".join(messages)) for field, messages in by_field.items()][:ERRORS_LIMIT]


def refused(errors: Sequence[FieldError]) -> SpecRejected:
    """The error that names the first errors, each shortened."""
    named = [e.shortened() for e in errors[:ERRORS_LIMIT]]
    return SpecRejected("; ".join(f"{e.field}: {e.error}" for e in named[:5]), named)


def _path(loc: Sequence[int | str], raw: Any) -> str:
    """Only the parts of pydantic's location that are in the file: union members and validators are left out."""
    path: list[str] = []
    at = raw
    for i, part in enumerate(loc):
        if isinstance(at, dict) and part in at:
            at = at[part]
        elif isinstance(at, list | tuple) and isinstance(part, int) and part < len(at):
            at = at[part]
        elif not (i == len(loc) - 1 and isinstance(at, dict) and str(part).isidentifier()):
            continue
        path.append(str(part))
    return ".".join(path) or "body"


def _message(error: dict[str, Any], raw: Any) -> str:
    loc, context = error["loc"], error.get("ctx", {})
    match error["type"]:
        case "missing":
            return "is missing; add it"
        case "extra_forbidden":
            known = _names(_part_of(loc[:-1]))
            close = get_close_matches(str(loc[-1]), known, 1)
            if close:
                return f"is not known; did you mean {close[0]}?"
            return f"is not known; known are {', '.join(known)}" if known else "is not known; remove it"
        case "string_pattern_mismatch" if context.get("pattern") in PATTERN_RULES:
            return PATTERN_RULES[context["pattern"]]
        case "string_pattern_mismatch" if loc[-1] == "estimator":
            return "must be the path of a river class, such as river.linear_model.LogisticRegression"
    message = str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    return message.replace("Input is not", "is not").replace("Tuple should have", "must have")


def _part_of(loc: Sequence[int | str]) -> str:
    """The longest beginning of a location that is a part of the spec."""
    names = [str(name) for name in loc if not isinstance(name, int)]
    paths = (".".join(names[:n]) for n in range(len(names), 0, -1))
    return next((path for path in paths if path in SPEC_PARTS), "")


def _names(part: str) -> list[str]:
    model = SPEC_PARTS.get(part)
    names = [f.alias or name for name, f in model.model_fields.items()] if model else []
    return [name for name in names if f"{part}.{name}" not in UNSUPPORTED]
