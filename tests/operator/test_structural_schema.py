"""What Kubernetes cannot say is left open, never said wrongly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from everloop_operator.structural_schema import to_structural
from everloop_schemas.loop import LoopSpec


def schemas_within(form: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield form
    for part in (*form.get("properties", {}).values(), form.get("items"), form.get("additionalProperties")):
        if part is not None:
            yield from schemas_within(part)


def test_the_whole_spec_becomes_a_structural_schema() -> None:
    schema = LoopSpec.model_json_schema()

    forms = list(schemas_within(to_structural(schema, schema["$defs"])))

    open_forms = ("x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string")
    assert len(forms) > 100
    assert all("type" in form or any(form.get(key) for key in open_forms) for form in forms)
    said = {key for form in forms for key in form}
    assert not said & {"$ref", "anyOf", "const", "default", "patternProperties", "prefixItems", "title"}
    assert all(not {"properties", "additionalProperties"} <= form.keys() for form in forms)


@pytest.mark.parametrize(
    ("said", "form"),
    [
        ({"type": "string", "const": "all"}, {"type": "string", "enum": ["all"]}),
        ({"type": "number", "exclusiveMinimum": 0.5}, {"type": "number", "minimum": 0.5, "exclusiveMinimum": True}),
        (
            {"anyOf": [{"type": "integer"}, {"type": "string"}], "default": 100, "ge": 1},
            {"description": "Default: 100.", "x-kubernetes-int-or-string": True},
        ),
        ({"anyOf": [{"type": "number"}, {"type": "string"}]}, {"x-kubernetes-preserve-unknown-fields": True}),
        ({"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}, {"nullable": True, "type": "string"}),
        (
            {"patternProperties": {"^[a-z]$": {"type": "string"}}, "type": "object", "maxProperties": 5},
            {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 5},
        ),
    ],
)
def test_each_form_of_a_json_schema_has_its_structural_one(said: dict[str, Any], form: dict[str, Any]) -> None:
    assert to_structural(said, {}) == form


def test_a_null_is_kept_for_the_registry_or_refused_by_an_enum_and_never_dropped() -> None:
    schema = {"anyOf": [{"enum": ["refuse", "null"], "type": "string"}, {"type": "null"}], "default": "refuse"}

    form = to_structural(schema, {})

    assert form == {
        "description": 'Default: "refuse".',
        "nullable": True,
        "type": "string",
        "enum": ["refuse", "null"],
    }
