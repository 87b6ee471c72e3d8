"""Batch models, which are served as ONNX, are explained against the usual observation in their files."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from itertools import permutations
from math import inf
from typing import Any

import numpy as np
import pytest
from skl2onnx import to_onnx  # type: ignore[import-untyped]
from tests.builders.loops import loop_spec
from tests.builders.onnx_models import logistic_onnx, normalised

from everloop_models.batch.convert import register_boosting
from everloop_models.batch.fit import train
from everloop_models.batch.rows import Row
from everloop_models.explain import explain, importance_of
from everloop_models.formats.onnx.format import load
from everloop_models.formats.onnx.interface import Interface, ModelInput
from everloop_models.formats.onnx.model import OnnxModel
from everloop_models.formats.onnx.usual import MAX_CHARACTERS, read_usual, write_usual
from everloop_schemas.envelope import Fields, Scalar
from everloop_schemas.serving import Explanation

pytestmark = [pytest.mark.frameworks, pytest.mark.usefixtures("one_thread")]
SCHEMA = {"a": {"type": "number"}, "b": {"type": "string"}, "c": {"type": "number"}}
MODELS = [
    ("binary", "sklearn.linear_model.LogisticRegression", "permutation", "probability"),
    ("binary", "sklearn.ensemble.RandomForestClassifier", "tree", "probability"),
    ("binary", "sklearn.ensemble.AdaBoostClassifier", "permutation", "probability"),
    ("multiclass", "sklearn.ensemble.HistGradientBoostingClassifier", "tree", "margin"),
    ("binary", "lightgbm.LGBMClassifier", "tree", "log_odds"),
    ("binary", "xgboost.XGBClassifier", "tree", "log_odds"),
    ("regression", "sklearn.linear_model.LinearRegression", "permutation", "value"),
    ("regression", "sklearn.tree.DecisionTreeRegressor", "tree", "value"),
    ("regression", "lightgbm.LGBMRegressor", "tree", "value"),
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


@pytest.mark.parametrize(("task", "estimator", "method", "scale"), MODELS)
def test_contributions_of_a_batch_model_sum_to_its_prediction_and_are_those_of_all_orders(
    task: str, estimator: str, method: str, scale: str
) -> None:
    model, rng = trained(task, estimator), random.Random(2)
    usual = model.reference({"a": 0.0, "b": "", "c": 0.0})

    for _ in range(5):
        features = row(rng, task).features
        prediction = model.predict(features)
        found = explain(model, features, prediction, "id", seconds=60)

        assert found is not None
        assert (found.method, found.scale) == (method, scale)
        if scale == "margin":
            continue  # predictions do not tell it
        by_hand, orders = dict.fromkeys(features, 0.0), list(permutations(features))
        for order in orders:
            before: Fields = dict(usual)
            for name in order:
                after = {**before, name: features[name]}
                step = score(model, after, found) - score(model, before, found)
                by_hand[name] += step / len(orders)
                before = after
        total = found.base + sum(found.contributions.values())
        error = 1e-2 if scale == "log_odds" else 1e-5  # of probabilities near 1 in single precision
        assert total == pytest.approx(score(model, features, found), abs=error)
        assert found.contributions == pytest.approx(by_hand, abs=error)


def score(model: OnnxModel, features: Fields, found: Explanation) -> float:
    """The score on the scale of an explanation, from what a client sees."""
    said = model.predict(features)
    if found.of is None:
        return float(said.value)
    probability = (said.probabilities or {})[found.of]
    return math.log(probability / (1 - probability)) if found.scale == "log_odds" else probability


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_contributions_of_boosted_trees_sum_to_what_their_own_library_s_contributions_sum_to(
    library: str, task: str
) -> None:
    boosting, rng = pytest.importorskip(library), np.random.default_rng(4)
    x = rng.normal(size=(300, 3)).astype(np.float32)
    x[rng.random(x.shape) < 0.1] = math.nan
    y = {"binary": x[:, 0] > 0, "multiclass": np.digitize(x[:, 0], [-0.5, 0.5]), "regression": x[:, 0] - x[:, 1]}[task]
    kind = "Regressor" if task == "regression" else "Classifier"
    fitted = getattr(boosting, f"{library[:1].upper()}GB{'M' * (library == 'lightgbm')}{kind}")(
        n_estimators=10, n_jobs=1, **({"verbose": -1} if library == "lightgbm" else {})
    ).fit(x, np.nan_to_num(y))
    register_boosting(library)
    options = {} if task == "regression" else {"options": {id(fitted): {"zipmap": False}}}
    label = {"label": {"type": "integer", "classes": [0, 1, 2]}} if task == "multiclass" else {}
    spec = loop_spec(task=task, schema={name: {"type": "number", "missing": "null"} for name in "abc"}, **label)
    model = load(normalised(to_onnx(fitted, x[:1], target_opset={"": 15, "ai.onnx.ml": 3}, **options), spec).data)

    for values in x[:20]:
        features: Fields = {n: None if v != v else float(v) for n, v in zip("abc", values, strict=True)}
        prediction = model.predict(features)
        found = explain(model, features, prediction, "id")

        if library == "xgboost":
            theirs = fitted.get_booster().predict(boosting.DMatrix(values[None]), pred_contribs=True)[0]
        else:
            theirs = fitted.predict(values[None], pred_contrib=True)[0]
        margins = np.reshape(theirs, (-1, 4)).sum(axis=1)
        assert found is not None
        assert found.method == "tree"
        of = 0 if task == "regression" else model.interface.classes.index(prediction.value)
        margin = margins[of] if len(margins) > 1 else margins[0] * (-1 if (task, of) == ("binary", 0) else 1)
        assert found.base + sum(found.contributions.values()) == pytest.approx(margin, abs=1e-4)


def test_splits_of_categories_are_followed() -> None:
    onnxmltools, lightgbm = pytest.importorskip("onnxmltools"), pytest.importorskip("lightgbm")
    tensors = pytest.importorskip("onnxmltools.convert.common.data_types")
    rng = np.random.default_rng(5)
    x = np.column_stack([rng.integers(0, 8, 400), rng.normal(size=400)]).astype(np.float32)
    parameters = {"n_estimators": 10, "n_jobs": 1, "verbose": -1, "min_data_per_group": 1, "cat_smooth": 0.0}
    fitted = lightgbm.LGBMClassifier(**parameters).fit(
        x, np.isin(x[:, 0], [1, 3, 6]).astype(int), categorical_feature=[0]
    )
    made = onnxmltools.convert_lightgbm(fitted, initial_types=[("x", tensors.FloatTensorType([None, 2]))], zipmap=False)
    model = load(normalised(made, loop_spec(schema={name: {"type": "number"} for name in "ab"})).data)
    [modes] = [each.strings for each in made.graph.node[0].attribute if each.name == "nodes_modes"]

    for values in x[:20]:
        features: Fields = dict(zip("ab", map(float, values), strict=True))
        prediction = model.predict(features)
        found = explain(model, features, prediction, "id")

        margin = float(fitted.predict(values[None], raw_score=True)[0])
        assert found is not None
        assert (found.method, found.scale) == ("tree", "log_odds")
        total = found.base + sum(found.contributions.values())
        assert total == pytest.approx(margin if prediction.value else -margin, abs=1e-4)
    assert b"BRANCH_EQ" in modes


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
