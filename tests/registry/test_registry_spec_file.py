"""The errors of an invalid loop file: every field by its path, with the fix."""

from __future__ import annotations

import json

import pytest
from tests.registry.registry_harness import LOOP_FILE

from everloop_registry.domain.spec_file import read_spec
from everloop_registry.errors import SpecRejected


def errors_of(body: str | bytes, *, is_json: bool = False) -> dict[str, str]:
    """The errors of a file, by field."""
    raw = body if isinstance(body, bytes) else body.encode()
    with pytest.raises(SpecRejected) as refused:
        read_spec(raw, is_json=is_json)
    return {e.field: e.error for e in refused.value.errors}


def test_a_file_is_read_as_yaml_and_as_json() -> None:
    from_yaml = read_spec(LOOP_FILE.encode(), is_json=False)

    as_json = from_yaml.model_dump_json(by_alias=True, exclude_none=True)

    assert read_spec(as_json.encode(), is_json=True) == from_yaml


@pytest.mark.parametrize(
    ("line", "field", "says"),
    [
        ("models: [{estimator: os.system}]", "models.0.estimator", "river.linear_model"),
        ("models: [{preset: logistic, estimator: river.x.Y}]", "models.0", "exactly one"),
        ("models: [{preset: forest}]", "models.0.preset", "adaptive_forest"),
        ("rollout: {canary: [50%, 10%]}", "rollout.canary", "rise"),
        ("rollout: {canary: [150%]}", "rollout.canary.0", "between 0 and 100"),
        ("rollout: {shadows: 3}", "rollout.shadows", "did you mean shadow?"),
        ("gate: {confidence: .nan}", "gate.confidence", "finite"),
        ("gate: {confidence: 2}", "gate.confidence", "less than 1"),
        ("label: {type: boolean, within: soon}", "label.within", "7d"),
        ("label: {type: string}", "label.type", "boolean"),
        ("metric: rmse", "metric", "accuracy"),
        ("features: [{fields: [price], name: 3}]", "features.0.name", "string"),
        ("features: [{name: x, mean: price}]", "features.0", "needs over"),
        ("features: [{fields: 7}]", "features.0.fields", "all"),
        ("retran: {on_drift: true}", "retran", "did you mean retrain?"),
        ("models: [{preset: logistic, l2: .inf}]", "models.0.l2", "finite"),
        ("apiVersion: everloop/v9", "apiVersion", "everloop/v1"),
    ],
)
def test_each_mistake_names_its_field_and_the_fix(line: str, field: str, says: str) -> None:
    key = line.partition(":")[0]
    kept = "\n".join(row for row in LOOP_FILE.splitlines() if not row.startswith(f"{key}:"))

    found = errors_of(f"{kept}\n{line}\n")

    assert list(found) == [field]
    assert says in found[field]


def test_all_mistakes_are_reported_at_once() -> None:
    found = errors_of("loop: Not A Name\nschema: {'a b': {type: number}, c: {type: money}}\n")

    assert set(found) == {"loop", "task", "schema.a b", "schema.c.type"}
    assert "lower-case" in found["loop"]
    assert found["task"] == "is missing; add it"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("loop: [", "YAML"),
        ("loop: !!python/object/apply:os.system [ls]", "YAML"),
        ("- just\n- a list", "must be an object"),
        ("loop: a\nloop: b", "twice"),
        ("a: " + "[" * 50 + "]" * 50, "levels"),
        ("a: &a [1]\nb: [" + ", ".join(["*a"] * 11) + "]", "aliases"),
        (b"loop: \xff\xfe", "UTF-8"),
    ],
)
def test_yaml_that_is_broken_or_hostile_is_refused(body: str | bytes, says: str) -> None:
    assert says in errors_of(body)["body"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ('{"loop": ', "JSON"),
        ('{"gate": {"confidence": NaN}}', "column 25"),
        ('{"loop": "a", "loop": "b"}', "twice"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_json_that_is_broken_or_hostile_is_refused(body: str, says: str) -> None:
    assert says in errors_of(body, is_json=True)["body"]


def test_an_infinite_number_in_json_is_refused_by_field() -> None:
    body = json.loads(read_spec(LOOP_FILE.encode(), is_json=False).model_dump_json(by_alias=True, exclude_none=True))

    text = json.dumps({**body, "retrain": {"below": 0.5}}).replace("0.5}", "1e999}")

    assert "finite" in errors_of(text, is_json=True)["retrain.below"]
