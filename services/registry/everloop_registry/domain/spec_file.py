"""Reads a loop file, YAML or JSON, into a LoopSpec, or says everything that is wrong with it, by field."""

from __future__ import annotations

import json
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from everloop_registry.errors import SpecRejected
from everloop_schemas import loop as spec
from everloop_shared.errors import FieldError

MAX_DEPTH = 20
MAX_ALIASES = 10
ERRORS_LIMIT = 50
PARTS: dict[str, type[BaseModel]] = {
    "": spec.LoopSpec,
    "schema": spec.FieldSpec,
    "features": spec.FeatureSpec,
    "label": spec.LabelSpec,
    "refresh": spec.RefreshSpec,
    "retrain": spec.RetrainSpec,
    "gate": spec.GateSpec,
    "rollout": spec.RolloutSpec,
    "monitor": spec.MonitorSpec,
}
PATTERNS = {
    spec.LOOP_NAME: "must be lower-case letters, digits, - and _, beginning with a letter or digit, 63 at most",
    spec.FIELD_NAME: "must be letters, digits and _, not beginning with a digit, 63 at most",
}


def read_spec(body: bytes, *, is_json: bool) -> spec.LoopSpec:
    """The spec in a loop file; raises SpecRejected naming every field that is wrong and the fix. Blocks a while."""
    try:
        text = body.decode()
    except UnicodeDecodeError as e:
        raise _refused([FieldError("body", f"must be UTF-8: {e}")]) from e
    try:
        raw = _json(text) if is_json else _yaml(text)
    except RecursionError as e:
        raise _refused([FieldError("body", f"is nested deeper than {MAX_DEPTH} levels")]) from e
    except (ValueError, yaml.YAMLError) as e:
        raise _refused([FieldError("body", f"is not {'JSON' if is_json else 'YAML'}: {e}")]) from e
    if not isinstance(raw, dict):
        raise _refused([FieldError("body", "must be an object with loop, task and schema")])
    try:
        return spec.LoopSpec.model_validate(raw)
    except ValidationError as e:
        raise _refused(field_errors(e, raw)) from e


def field_errors(error: ValidationError, raw: Any) -> list[FieldError]:
    """pydantic's errors by dotted path as the file has it, one per field, each with the fix."""
    by_field: dict[str, list[str]] = {}
    for e in error.errors(include_url=False, include_context=True):
        if e["type"] == "too_short" and e["input"]:
            continue  # its members are wrong, and are told
        field, message = _path(e["loc"], raw), _message(dict(e), raw)
        if field == "body" and (named := message.partition(": "))[1] and named[0].split(".")[0] in _names(""):
            field, message = named[0], named[2]
        said = by_field.setdefault(field, [])
        if message not in said:
            said.append(message)
    return [FieldError(field, "; or ".join(said)) for field, said in by_field.items()][:ERRORS_LIMIT]


def _refused(errors: list[FieldError]) -> SpecRejected:
    return SpecRejected("; ".join(f"{e.field}: {e.error}" for e in errors[:5]), errors)


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
            known = _names(str(loc[0]) if len(loc) > 1 else "")
            close = get_close_matches(str(loc[-1]), known, 1)
            return f"is not known; {f'did you mean {close[0]}?' if close else 'known are ' + ', '.join(known)}"
        case "string_pattern_mismatch" if context.get("pattern") in PATTERNS:
            return PATTERNS[context["pattern"]]
        case "string_pattern_mismatch" if loc[-1] == "estimator":
            return "must be the path of a river class, such as river.linear_model.LogisticRegression"
    message = str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    return message.replace("Input is not", "is not").replace("Tuple should have", "must have")


def _names(part: str) -> list[str]:
    model = PARTS.get(part)
    return [f.alias or name for name, f in model.model_fields.items()] if model else []


def _json(text: str) -> Any:
    return json.loads(text, parse_constant=_not_finite, object_pairs_hook=_once)


def _not_finite(word: str) -> Any:
    raise ValueError(f"{word} is no number here; write a finite one")


def _once(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} is there twice; keep one")
        found[key] = value
    return found


def _yaml(text: str) -> Any:
    depth = aliases = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        aliases += isinstance(event, yaml.AliasEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if aliases > MAX_ALIASES or depth > MAX_DEPTH:
            raise ValueError(f"at most {MAX_ALIASES} aliases and {MAX_DEPTH} levels")
    return yaml.load(text, Loader=_Loader)


class _Loader(yaml.CSafeLoader):
    """A safe loader that refuses a key said twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping, each key once; raises ConstructorError."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen and key.value != "<<":
                said = f"{key.value!r} is there twice; keep one"
                raise yaml.constructor.ConstructorError(None, None, said, key.start_mark)
            seen.add(str(key.value) if isinstance(key, yaml.ScalarNode) else "")
        return super().construct_mapping(node, deep)
