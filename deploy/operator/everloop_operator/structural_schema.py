"""Turns a JSON Schema into the structural schema that Kubernetes takes, as far as that can say it.

What it cannot say is left to the registry, which checks every spec: patterns of keys, values of several types, and that
there are no other keys. Unknown keys are kept, not pruned, so that the registry sees a misspelt one and refuses it. No
defaults are set: a stored resource is what somebody wrote.
See https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]
ANYTHING = {"x-kubernetes-preserve-unknown-fields": True}
COPIED = ("type", "enum", "pattern", "minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum")
SCALARS = (str, int, float, bool)


def to_structural(schema: Schema, definitions: Mapping[str, Schema]) -> dict[str, Any]:
    """The structural form of a JSON Schema as pydantic makes it, whose `$ref`s are names of `definitions`."""
    if "$ref" in schema:
        named = definitions[schema["$ref"].rpartition("/")[2]]
        own = {key: schema[key] for key in ("default", "description") if key in schema}
        return to_structural({**named, **own}, definitions)
    found = _describe(schema)
    choices = schema.get("anyOf")
    if choices is None:
        return found | _to_plain(schema, definitions)
    some = [choice for choice in choices if choice.get("type") != "null"]
    # Without it Kubernetes drops a null, whatever it means; with an enum, which no null is in, it is refused instead.
    if len(some) < len(choices):
        found["nullable"] = True
    return found | _merge(some, definitions)


def _merge(choices: list[Schema], definitions: Mapping[str, Schema]) -> dict[str, Any]:
    """The form of a value that is one of several."""
    if len(choices) == 1:
        form = to_structural(choices[0], definitions)
        return {k: v for k, v in form.items() if k != "description"}
    if [choice.get("type") for choice in choices] == ["integer", "string"]:
        return {"x-kubernetes-int-or-string": True}
    return dict(ANYTHING)


def _to_plain(schema: Schema, definitions: Mapping[str, Schema]) -> dict[str, Any]:
    form = {key: schema[key] for key in COPIED if key in schema}
    if "const" in schema:
        form["enum"] = [schema["const"]]
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if exclusive in schema:
            form |= {bound: schema[exclusive], exclusive: True}
    if form.get("type") == "array":
        parts = schema.get("prefixItems")
        form["items"] = to_structural(parts[0] if parts else schema["items"], definitions)
    elif form.get("type") == "object":
        form |= _to_object(schema, definitions)
    return form


def _to_object(schema: Schema, definitions: Mapping[str, Schema]) -> dict[str, Any]:
    if "properties" in schema:
        properties = {name: to_structural(part, definitions) for name, part in schema["properties"].items()}
        required = {"required": list(schema["required"])} if schema.get("required") else {}
        return {"properties": properties, **required, **ANYTHING}
    [values] = schema["patternProperties"].values()
    limits = {key: schema[key] for key in ("minProperties", "maxProperties") if key in schema}
    return {"additionalProperties": to_structural(values, definitions), **limits}


def _describe(schema: Schema) -> dict[str, Any]:
    """The description, and the default in words."""
    words = [schema["description"]] if "description" in schema else []
    default = schema.get("default")
    if isinstance(default, SCALARS) and default != "":
        words.append(f"Default: {json.dumps(default)}.")
    return {"description": "\n\n".join(words)} if words else {}
