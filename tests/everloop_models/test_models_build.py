"""From a spec to a model: every preset learns, and what cannot work is refused with the field and the fix."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from everloop_models import ModelBroken, ModelSpecInvalid, OnlineModel, build, save, verify_and_load
from everloop_models.trial import check_models
from everloop_schemas.envelope import Fields, Scalar
from everloop_schemas.loop import LoopSpec

CLASSIFIERS = ["logistic", "adaptive_forest", "hoeffding_tree", "leveraging_bagging", "naive_bayes"]
REGRESSORS = ["linear", "adaptive_forest", "hoeffding_tree"]
SMALL = {"adaptive_forest": {"trees": 2}, "leveraging_bagging": {"n_models": 2}}
CASES = [
    (t, p) for t, ps in (("binary", CLASSIFIERS), ("multiclass", CLASSIFIERS), ("regression", REGRESSORS)) for p in ps
]


def spec(task: str, **model: Any) -> LoopSpec:
    return LoopSpec.model_validate(
        {
            "loop": "x",
            "task": task,
            "schema": {"a": {"type": "number"}, "b": {"type": "string"}, "c": {"type": "boolean"}},
            "models": [model],
        }
    )


def observation(i: int, task: str) -> tuple[Fields, Scalar]:
    rng = random.Random(i)
    a = rng.random()
    labels: dict[str, Scalar] = {"binary": a > 0.5, "multiclass": "low" if a < 0.4 else "high", "regression": 100 * a}
    missing = i % 7 == 0
    return {"a": None if missing else a, "b": None if missing else rng.choice("xyz"), "c": i % 2 == 0}, labels[task]


def taught(model: OnlineModel, task: str, start: int, stop: int) -> list[tuple[Any, Any]]:
    predictions = []
    for i in range(start, stop):
        features, label = observation(i, task)
        predictions.append((model.predict(features), label))
        model.learn(features, label)
    return predictions


@pytest.mark.parametrize(("task", "preset"), CASES)
def test_every_preset_learns_with_missing_values_and_text_and_survives_its_artifact(task: str, preset: str) -> None:
    loop = spec(task, preset=preset, **SMALL.get(preset, {}))
    model = build(loop.models[0], loop)
    taught(model, task, 0, 150)
    artifact = save(model)

    loaded = verify_and_load(artifact.data, artifact.sha256)

    assert taught(loaded, task, 150, 250) == taught(model, task, 150, 250)
    assert loaded.signature == ("a", "b", "c")


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_probabilities_are_named_by_class_and_add_up_to_one(task: str) -> None:
    loop = spec(task, preset="logistic")
    model = build(loop.models[0], loop)
    taught(model, task, 0, 300)

    prediction = model.predict(observation(301, task)[0])

    assert prediction.probabilities is not None
    assert set(prediction.probabilities) == ({"true", "false"} if task == "binary" else {"low", "high"})
    assert math.isclose(sum(prediction.probabilities.values()), 1)
    assert type(prediction.value) is type(observation(0, task)[1])


def test_a_model_that_has_learned_nothing_predicts_the_default_of_the_task() -> None:
    loops = (spec("binary", preset="logistic"), spec("regression", preset="linear"))

    defaults = [build(loop.models[0], loop).predict({}).value for loop in loops]

    assert defaults == [False, 0.0]


def test_the_same_spec_and_data_make_the_same_model() -> None:
    loop = spec("binary", preset="adaptive_forest", trees=2)
    first, second = build(loop.models[0], loop), build(loop.models[0], loop)

    assert taught(first, "binary", 0, 400) == taught(second, "binary", 0, 400)


def test_text_beyond_the_limit_shares_one_column() -> None:
    loop = spec("binary", preset="logistic")
    model: Any = build(loop.models[0], loop)

    for i in range(500):
        model.learn({"a": 0.1, "b": f"value {i}", "c": True}, i % 2 == 0)

    assert len(model.estimator.weights) < 250


@pytest.mark.parametrize(
    ("model", "field", "message"),
    [
        ({"estimator": "river.nowhere.Model"}, "models.0.estimator", "not in the installed river"),
        ({"estimator": "river.linear_model.LinearRegression"}, "models.0.estimator", "not a river classifier"),
        ({"estimator": "river.datasets.Phishing"}, "models.0.estimator", "not a river classifier"),
        ({"estimator": "river.preprocessing.StandardScaler"}, "models.0.estimator", "not a river classifier"),
        ({"estimator": "river.ensemble.BaggingClassifier"}, "models.0.model", "needs it"),
        ({"preset": "linear"}, "models.0.preset", "use one of logistic"),
        ({"preset": "adaptive_forest", "trees": 0}, "models.0.trees", "from 1 to 100"),
        ({"preset": "adaptive_forest", "branches": 3}, "models.0.branches", "n_models"),
        ({"preset": "logistic", "learning_rate": -1}, "models.0.learning_rate", "above 0"),
        ({"estimator": "river.linear_model.ALMAClassifier", "p": 0}, "models.0", "cannot learn"),
    ],
)
def test_a_model_that_cannot_work_is_refused_by_field(model: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(ModelSpecInvalid) as refused:
        check_models(spec("binary", **model))

    assert refused.value.errors[0].field == field
    assert message in refused.value.errors[0].error


@pytest.mark.parametrize(("task", "preset"), [c for c in CASES if c[1] != "leveraging_bagging"])
def test_every_preset_passes_the_check_of_a_spec(task: str, preset: str) -> None:
    check_models(spec(task, preset=preset, **SMALL.get(preset, {})))


def test_a_prediction_that_is_not_finite_raises() -> None:
    loop = spec("regression", estimator="river.linear_model.LinearRegression", learning_rate=10, l2=1000)
    model = build(loop.models[0], loop)

    def diverge() -> None:
        for i in range(2000):
            model.learn({"a": 100.0 + i % 7}, float(i % 5))
            model.predict({"a": 100.0})

    with pytest.raises(ModelBroken):
        diverge()
