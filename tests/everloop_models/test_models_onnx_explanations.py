"""Batch models, which are served as ONNX, are explained against the usual observation in their files."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import permutations
from math import inf
from typing import Any

import pytest
from tests.builders.loops import loop_spec
from tests.builders.onnx_models import logistic_onnx, normalised

from everloop_models.batch.fit import train
from everloop_models.batch.rows import Row
from everloop_models.explain import explain, importance_of
from everloop_models.formats.onnx.format import load
from everloop_models.formats.onnx.interface import Interface, ModelInput
from everloop_models.formats.onnx.model import OnnxModel
from everloop_models.formats.onnx.usual import MAX_CHARACTERS, read_usual, write_usual
from everloop_schemas.envelope import Fields, Scalar

pytestmark = [pytest.mark.frameworks, pytest.mark.usefixtures("one_thread")]
SCHEMA = {"a": {"type": "number"}, "b": {"type": "string"}, "c": {"type": "number"}}
MODELS = [
    ("binary", "sklearn.linear_model.LogisticRegression"),
    ("binary", "sklearn.ensemble.RandomForestClassifier"),
    ("multiclass", "sklearn.ensemble.HistGradientBoostingClassifier"),
    ("binary", "lightgbm.LGBMClassifier"),
    ("binary", "xgboost.XGBClassifier"),
    ("regression", "sklearn.linear_model.LinearRegression"),
    ("regression", "sklearn.tree.DecisionTreeRegressor"),
]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads that wait for each other take long on a busy machine."""
    with pytest.importorskip("threadpoolctl").threadpool_limits(1):
        yield


def row(rng: random.Random, task: str) -> Row:
    a, b = rng.random(), rng.choice("xyy")
    y = a + 0.3 * (b == "x")
    labels: dict[str, Scalar] = {
        "binary": y > 0.6,
        "multiclass": "low" if y < 0.4 else "middle" if y < 0.8 else "high",
        "regression": 10 * y,
    }
    return Row({"a": a, "b": b, "c": rng.gauss(0, 1)}, labels[task])


def trained(task: str, estimator: str) -> OnnxModel:
    spec, rng = loop_spec(task=task, schema=SCHEMA, models=[{"estimator": estimator}]), random.Random(1)
    return load(train(spec.models[0], spec, [row(rng, task) for _ in range(301)]).data)


@pytest.mark.parametrize(("task", "estimator"), MODELS)
def test_contributions_of_a_batch_model_sum_to_its_prediction_and_are_those_of_all_orders(
    task: str, estimator: str
) -> None:
    model, rng = trained(task, estimator), random.Random(2)
    usual = model.reference({"a": 0.0, "b": "", "c": 0.0})

    for _ in range(5):
        features = row(rng, task).features
        prediction = model.predict(features)
        found = explain(model, features, prediction, "id", seconds=60)

        assert found is not None
        assert found.method == "permutation"
        by_hand, orders = dict.fromkeys(features, 0.0), list(permutations(features))
        for order in orders:
            before: Fields = dict(usual)
            for name in order:
                after = {**before, name: features[name]}
                step = score(model, after, found.of) - score(model, before, found.of)
                by_hand[name] += step / len(orders)
                before = after
        total = found.base + sum(found.contributions.values())
        assert total == pytest.approx(score(model, features, found.of), abs=1e-6)
        assert found.contributions == pytest.approx(by_hand, abs=1e-5)


def score(model: OnnxModel, features: Fields, of: str | None) -> float:
    said = model.predict(features)
    return float(said.value) if of is None else (said.probabilities or {})[of]


def test_a_linear_model_s_contributions_are_weights_times_the_distance_from_the_median() -> None:
    model = trained("regression", "sklearn.linear_model.LinearRegression")
    usual = model.reference({"a": 0.0, "b": "", "c": 0.0})
    features: Fields = {**usual, "a": 0.9}

    found = explain(model, features, model.predict(features), "id", seconds=60)

    assert found is not None
    assert usual["a"] == pytest.approx(0.5, abs=0.1)
    assert usual["b"] == "y"
    assert found.contributions["a"] == pytest.approx(10 * (0.9 - float(usual["a"] or 0)), rel=1e-3)
    assert (found.contributions["b"], found.contributions["c"]) == (0.0, 0.0)


def test_importance_of_a_batch_model_names_what_the_label_follows_from() -> None:
    model, rng = trained("binary", "sklearn.ensemble.RandomForestClassifier"), random.Random(3)

    found = importance_of(model, [row(rng, "binary").features for _ in range(40)], seconds=60)

    assert found is not None
    assert sum(found.values()) == pytest.approx(1)
    assert found["a"] > found["b"] > found["c"]


def test_a_submitted_model_without_usual_values_is_explained_against_zeros() -> None:
    spec = loop_spec(schema={"u": {"type": "number"}, "v": {"type": "number"}})
    model = load(normalised(logistic_onnx([2.0, -1.0]), spec).data)
    features: Fields = {"u": 1.0, "v": 0.0, "unknown": 3.0}

    found = explain(model, features, model.predict(features), "id", seconds=60)

    assert found is not None
    assert found.base == pytest.approx(0.5)
    assert found.contributions["u"] > 0.3
    assert (found.contributions["v"], found.contributions["unknown"]) == (0.0, 0.0)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "no JSON",
        "[1]",
        "[" * 100_000,
        '{"a": NaN, "b": 3, "i": Infinity}',
        '{"a": "text", "b": ["x"], "i": null}',
        json.dumps({"x": "y" * MAX_CHARACTERS}),
    ],
)
def test_whatever_a_file_says_is_usual_there_is_a_value_that_fits(text: str | None) -> None:
    interface = Interface(
        task="regression",
        inputs=(
            ModelInput(name="n", type="float", features=("a",)),
            ModelInput(name="t", type="string", features=("b",)),
            ModelInput(name="w", type="int64", features=("i",)),
        ),
        value="y",
        opset=15,
    )

    usual = read_usual(text, interface)

    expected: dict[str, Any] = {"a": 0.0, "b": "", "i": 0}
    assert usual == expected
    assert json.loads(write_usual({"a": inf, "b": "x", "i": 2})) == {"b": "x", "i": 2}
