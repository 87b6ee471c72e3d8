"""ONNX models: what they are fed, and what is read from their outputs."""

from __future__ import annotations

import pytest
from tests.builders.loops import loop_spec
from tests.builders.onnx_models import linear, network, normalised

from everloop_models.formats.onnx.format import check, load
from everloop_schemas.envelope import Fields
from everloop_schemas.loop import LoopSpec


def spec_of(task: str = "binary", names: str = "ab", **label: object) -> LoopSpec:
    """A loop whose features are numbers with names of one letter."""
    return loop_spec(task=task, schema={name: {"type": "number"} for name in names}, label=label)


def test_a_network_of_probabilities_predicts_the_most_likely_class() -> None:
    artifact, interface = normalised(network(2, 2), spec_of())

    check(artifact)
    found = load(artifact).predict({"a": 1.0, "b": -1.0})

    assert (found.value, list(found.probabilities or {})) == (True, ["false", "true"])
    assert sum((found.probabilities or {}).values()) == pytest.approx(1)
    assert (interface.signature, interface.classes) == (("a", "b"), (False, True))


def test_a_regression_predicts_its_one_value_and_rows_together_as_one_by_one() -> None:
    model = load(normalised(linear(2), spec_of("regression")).data)
    rows: list[Fields] = [{"a": 1.0, "b": 2.0}, {"b": -1, "a": 0}, {"a": True, "b": 0.5}]

    together = model.predict_many(rows)

    assert [each.value for each in together] == [5.0, -2.0, 2.0]
    assert together == [model.predict(row) for row in rows]
