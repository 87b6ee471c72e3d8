"""Hostile loop files: they are refused at once, and with a brief answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.registry.spec_refusals import BINARY, MANY, errors_of

PLACES: list[dict[str, Any]] = [
    {"loop": "HALF"},
    {"task": "HALF"},
    {"metric": "HALF"},
    {"schema": {"HALF": {"type": "number"}}},
    {"schema": {"x": {"type": "HALF"}}},
    {"schema": {"x": {"type": "string", "enum": ["HALF", "b"]}}},
    {"HALF": 1},
    {"label": {"classes": ["HALF", "b"]}, "task": "multiclass"},
    {"label": {"within": "HALF"}},
    {"features": [{"name": "HALF", "mean": "x", "over": "3 events"}]},
    {"features": [{"name": "y", "expr": "x == 'HALF'"}]},
    {"features": [{"fields": ["HALF"]}]},
    {"models": [{"estimator": "HALF"}]},
    {"models": [{"preset": "logistic", "HALF": 1}]},
    {"models": [{"preset": "logistic", "l2": "HALF"}]},
    {"retrain": {"on_schedule": "HALF"}},
    {"monitor": {"slices": ["HALF"]}},
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("half", ["\\ud800", "\\udfff", "a\\u0000b", "\\u0007", "\\u009f"])
def test_half_a_character_and_control_characters_are_refused_wherever_they_stand(
    place: dict[str, Any], half: str
) -> None:
    body = {"loop": "x", "task": "binary", "schema": {"x": {"type": "number"}}, **place}

    errors_of(json.dumps(body).replace("HALF", half), is_json=True)


HUGE: dict[str, str] = {
    "141 KB of unknown keys": BINARY + "\n".join(f"k{i}: 1" for i in range(12_000)),
    "long unknown keys": BINARY + "\n".join(f"{'k' * 1000}{i}: 1" for i in range(150)),
    "one long key": BINARY + f"'{'k' * 140_000}': 1",
    "unknown keys in a thousand features": BINARY
    + "features:\n"
    + "".join(f"- {{name: f{i}, mena: x, voer: 3 events, nmae: y}}\n" for i in range(1000)),
    "a long value everywhere": BINARY
    + "features:\n"
    + f"- {{name: '{'n' * 5000}', mean: x, over: {'o' * 5000}}}\n" * 14,
    "a list of wrong things": MANY + f"label: {{classes: [{', '.join(['{a: 1}'] * 15_000)}]}}",
    "numbers as names": BINARY + "\n".join(f"  {i}: {{type: number}}" for i in range(3000)),
    "fields of no type": "loop: x\ntask: binary\nschema:\n" + "\n".join(f"  f{i}: {{}}" for i in range(5000)),
    "more fields than may be": "loop: x\ntask: binary\nschema:\n"
    + "\n".join(f"  f{i}: {{type: number}}" for i in range(5000)),
    "no letters but many": BINARY + "metric: '" + "é" * 100_000 + "'",
    "pictures": BINARY + "features:\n" + f"- {{name: '{'🐘' * 500}', fields: '{'🐘' * 500}', type: '🐘'}}\n" * 50,
    "an alias of an alias": BINARY
    + "a: &a ["
    + ", ".join(["x"] * 1000)
    + "]\nb: &b [*a, *a, *a, *a, *a]\nc: [*b, *b, *b, *b, *b]",
    "itself": BINARY + "a: &a [*a]",
    "expressions that cost 100 ms per event": BINARY
    + "features:\n"
    + "".join(f"- {{name: e{i}, expr: '{'+'.join(['x'] * 100)}'}}\n" for i in range(900)),
    "a hundred models": BINARY + "models:\n" + "- {preset: logistic}\n" * 100,
    "a thousand parameters": BINARY + "models:\n- preset: logistic\n" + "".join(f"  p{i}: 1\n" for i in range(1000)),
}


@pytest.mark.parametrize("what", HUGE)
def test_a_huge_file_is_refused_at_once_and_briefly(what: str) -> None:
    errors_of(HUGE[what])


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000, "[" * 25 + "]" * 25, '{"loop": ' + "9" * 5000 + "}"])
def test_json_that_is_deep_or_endless_is_refused(text: str) -> None:
    errors_of(text, is_json=True)
