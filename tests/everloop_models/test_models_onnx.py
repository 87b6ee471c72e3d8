"""ONNX models: what they are fed, and what is read from their outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from tests.builders.loops import loop_spec
from tests.builders.onnx_models import BOOL, DOUBLE, FLOAT, INT64, STRING, linear, model, network, normalised, port

from everloop_models import ArtifactCorrupt, ModelBroken
from everloop_models.formats.onnx.format import check, load
from everloop_models.formats.onnx.interface import GivenInterface
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
    found = load(normalised(linear(2), spec_of("regression")).data)
    rows: list[Fields] = [{"a": 1.0, "b": 2.0}, {"b": -1, "a": 0}, {"a": True, "b": 0.5}]

    together = found.predict_many(rows)

    assert [each.value for each in together] == [5.0, -2.0, 2.0]
    assert together == [found.predict(row) for row in rows]


def test_columns_are_fed_in_the_order_that_comes_with_the_file_and_a_part_of_the_features_is_enough() -> None:
    given = GivenInterface(features=("c", "a"))

    artifact, interface = normalised(linear(2), spec_of("regression", "abc"), given)

    assert load(artifact).predict({"a": 1.0, "b": 100.0, "c": 2.0}).value == 1 * 2.0 + 2 * 1.0
    assert (interface.features, interface.signature) == (("c", "a"), ("a", "c"))


def test_a_file_that_is_normalised_again_stays_as_it_is() -> None:
    once = normalised(linear(2), spec_of("regression", "ab"), GivenInterface(features=("b", "a")))

    again = normalised(once.data, spec_of("regression", "ab"))

    assert again == once


def test_one_column_is_the_probability_of_the_second_class() -> None:
    found = load(normalised(network(1, 1, last="Sigmoid"), spec_of(names="a")).data)

    value, probabilities = found.predict({"a": 4.0})

    assert value is True
    assert [round(p, 3) for p in (probabilities or {}).values()] == [0.119, 0.881]


def test_a_model_that_takes_one_row_a_call_is_asked_for_each_row() -> None:
    artifact, interface = normalised(network(2, 2, rows=1), spec_of())
    rows: list[Fields] = [{"a": 1.0, "b": 0.0}, {"a": -9.0, "b": 3.0}]

    together = load(artifact).predict_many(rows)

    assert not interface.rows_at_once
    assert together == [load(artifact).predict(row) for row in rows]


def passing(kind: int, name: str = "a", shape: tuple[int | None, ...] = (None, 1)) -> onnx.ModelProto:
    """A regression that answers with its one feature, whatever its type."""
    nodes = [helper.make_node("Cast", [name], ["y"], to=FLOAT)]
    return model(nodes, [port(name, kind, shape)], [port("y", FLOAT, shape)])


VALUES: dict[str, tuple[int, Any, float | str]] = {
    "a float": (FLOAT, 0.5, 0.5),
    "a boolean as a float": (FLOAT, True, 1.0),
    "too large for a float": (FLOAT, 1e300, float(np.finfo(np.float32).max)),
    "an integer beyond any float": (DOUBLE, 10**400, "the prediction is inf"),
    "a double": (DOUBLE, 2.0**40 + 1, 2.0**40),
    "a missing float": (FLOAT, None, "the prediction is nan"),
    "a whole number": (INT64, 7.0, 7.0),
    "a fraction": (INT64, 7.5, "the feature a is 7.5, and the model takes a whole number"),
    "a missing whole number": (INT64, None, "the feature a is missing, and the model takes a whole number"),
    "a truth": (BOOL, True, 1.0),
    "no truth": (BOOL, 3, "the feature a is 3, and the model takes true or false"),
}


@pytest.mark.parametrize("kind", VALUES)
def test_a_value_becomes_one_of_the_type_of_its_input(kind: str) -> None:
    element, value, expected = VALUES[kind]
    found = load(normalised(passing(element), spec_of("regression", "a")).data)

    if isinstance(expected, str):
        with pytest.raises(ModelBroken, match=expected):
            found.predict({"a": value})
    else:
        assert found.predict({"a": value}).value == expected


def test_a_tensor_without_columns_and_inputs_by_name_are_fed_too() -> None:
    nodes = [helper.make_node("Add", ["a", "b"], ["y"])]
    made = model(nodes, [port("b", FLOAT, (None,)), port("a", FLOAT, (None,))], [port("y", FLOAT, (None,))])

    found = load(normalised(made, spec_of("regression", "abc")).data)

    assert [each.value for each in found.predict_many([{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 4.0}])] == [3.0, 7.0]
    assert found.signature == ("a", "b")


def test_text_goes_into_an_input_of_strings_and_a_missing_one_is_empty() -> None:
    spec = loop_spec(task="regression", schema={"city": {"type": "string", "missing": "null"}})
    encode = helper.make_node(
        "LabelEncoder",
        ["city"],
        ["y"],
        domain="ai.onnx.ml",
        keys_strings=["Rome", ""],
        values_floats=[1.0, 2.0],
        default_float=3.0,
    )
    found = load(normalised(model([encode], [port("city", STRING)], [port("y")]), spec).data)

    values = [found.predict({"city": city}).value for city in ("Rome", None, "Oslo")]

    assert values == [1.0, 2.0, 3.0]


def labelled(kind: int, labels: list[Any]) -> onnx.ModelProto:
    """A classifier that says the class with the number that its feature is, as a label alone."""
    values: dict[str, Any] = {"values_strings": labels} if kind == STRING else {"values_int64s": labels}
    nodes = [
        helper.make_node("Cast", ["a"], ["n"], to=INT64),
        helper.make_node(
            "LabelEncoder", ["n"], ["y"], domain="ai.onnx.ml", keys_int64s=[*range(len(labels))], **values
        ),
    ]
    return model(nodes, [port("a")], [port("y", kind)])


LABELS: dict[str, tuple[int, list[Any], dict[str, Any], tuple[Any, ...] | None, list[Any]]] = {
    "false and true": (INT64, [0, 1], {}, None, [False, True]),
    "text for a truth": (STRING, ["False", "True"], {}, None, [False, True]),
    "named": (STRING, ["stays", "leaves"], {}, (False, True), [False, True]),
    "names": (STRING, ["x", "y"], {"task": "multiclass"}, None, ["x", "y"]),
    "digits": (STRING, ["4", "7"], {"task": "multiclass", "label": {"type": "integer"}}, None, [4, 7]),
    "whole numbers": (INT64, [4, 7], {"task": "multiclass", "label": {"type": "integer"}}, None, [4, 7]),
    "numbers of classes": (INT64, [0, 1], {"task": "multiclass", "label": {"classes": ["x", "y"]}}, None, ["x", "y"]),
}


@pytest.mark.parametrize("kind", LABELS)
def test_a_label_becomes_the_class_of_the_loop_that_it_stands_for(kind: str) -> None:
    element, labels, fields, classes, expected = LABELS[kind]
    spec = loop_spec(schema={"a": {"type": "number"}}, **fields)
    artifact, interface = normalised(
        labelled(element, labels), spec, GivenInterface(classes=classes) if classes else None
    )

    found = [load(artifact).predict({"a": float(n)}) for n in range(2)]

    assert [each.value for each in found] == expected
    assert [type(each.value) for each in found] == [type(each) for each in expected]
    assert {each.probabilities is None for each in found} == {True}
    assert interface.output_names == ("y",)


def test_text_that_stands_for_no_class_is_refused_with_the_fix() -> None:
    spec = loop_spec(schema={"a": {"type": "number"}})

    with pytest.raises(ArtifactCorrupt, match="its class 'stays' is none of the loop, whose labels are boolean: name"):
        normalised(labelled(STRING, ["stays", "leaves"]), spec)


def test_of_several_outputs_the_one_that_is_named_counts() -> None:
    made = network(2, 2)
    made.graph.output.append(port("scores", FLOAT, (None, 2)))

    with pytest.raises(ArtifactCorrupt, match="'y', 'scores' may all be its probabilities: name the one as `probab"):
        normalised(made, spec_of())

    assert normalised(made, spec_of(), GivenInterface(probabilities="y")).interface.output_names == ("y",)
