"""Reads YAML by the core schema of YAML 1.2: NO, on and 1:30 are text. Features that specs do not need are refused."""

from __future__ import annotations

import re
from typing import Any

import yaml

MAX_DEPTH = 20
MAX_ALIASES = 10
MAX_EVENTS = 30_000


def read_yaml(text: str) -> Any:
    """The value of the one document in `text`; raises ValueError with the place and the correction.

    Refused are tags, repeated keys, keys that are not scalars, and more than `MAX_DEPTH` levels, `MAX_ALIASES` aliases
    or `MAX_EVENTS` parsing events. `<<` is a normal key: YAML 1.2 has no merge.
    """
    try:
        depth = aliases = 0
        for number, event in enumerate(yaml.parse(text, Loader=yaml.CSafeLoader)):
            aliases += isinstance(event, yaml.AliasEvent)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if aliases > MAX_ALIASES or depth > MAX_DEPTH:
                raise ValueError(f"at most {MAX_ALIASES} aliases and {MAX_DEPTH} levels")
            if number > MAX_EVENTS:
                raise ValueError(f"at most {MAX_EVENTS:,} scalars and brackets")
        return yaml.load(text, Loader=_Core)
    except yaml.YAMLError as e:
        raise ValueError(" ".join(str(e).split())) from e


class _Core(yaml.CSafeLoader):
    """A safe loader by YAML 1.2's core schema (10.3.2) that refuses repeated keys."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping, each key once; raises ConstructorError."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a scalar", key.start_mark)
            if key.value in seen:
                problem = f"{key.value[:80]!r} is there twice; keep one"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def _int(self, node: yaml.ScalarNode) -> int:
        text = str(self.construct_scalar(node))
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))

    def _float(self, node: yaml.ScalarNode) -> float:
        return float(str(self.construct_scalar(node)).lower().replace(".inf", "inf").replace(".nan", "nan"))


_TAG = "tag:yaml.org,2002:"
_SCHEMA = {  # which plain scalars are not text, and what they may begin with
    "null": (r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}
for _kind, (_pattern, _first) in _SCHEMA.items():
    _Core.add_implicit_resolver(_TAG + _kind, re.compile(rf"(?:{_pattern})\Z", re.ASCII), _first)
_Core.add_constructor(_TAG + "int", _Core._int)
_Core.add_constructor(_TAG + "float", _Core._float)
for _kind in ("timestamp", "binary", "omap", "pairs", "set", "merge", "value"):
    _Core.yaml_constructors.pop(_TAG + _kind, None)
