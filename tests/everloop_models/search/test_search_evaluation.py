"""A model is judged by what it predicts before it learns it, on real streams too; what cannot be judged says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.builders.loops import loop_spec
from tests.everloop_models.search.searching import (
    ELECTRICITY,
    RATIO_SPEC,
    Labelled,
    electricity,
    ratio_stream,
    write_rows,
)

from everloop_metrics import MetricInput, metric_input, score_of
from everloop_models import build
from everloop_models.search.data import prepare
from everloop_models.search.evaluation import evaluate
from everloop_models.search.task import Evaluation, TrialTask
from everloop_schemas.loop import METRICS, LoopSpec
from everloop_schemas.loop_parts import FeatureSpec, ModelSpec

frameworks = pytest.mark.frameworks
TREE = "sklearn.tree.DecisionTreeClassifier"
SENSOR = loop_spec(task="regression", schema={"x": {"type": "number"}})


def judged(
    folder: Path, model: ModelSpec, spec: LoopSpec = RATIO_SPEC, metric: str | None = None, **fields: Any
) -> Evaluation:
    """The evaluation of a model on the rows of a folder."""
    prepare(folder, model.kind == "batch", spec.label.classes, spec.task == "regression")
    return evaluate(TrialTask(folder=folder, spec=spec, model=model, index=0, metric=metric or spec.metric, **fields))


@pytest.mark.parametrize("metric", METRICS["binary"])
def test_an_online_model_is_scored_on_each_part_before_it_learns_it(tmp_path: Path, metric: str) -> None:
    rows = list(ratio_stream(300))
    model = build(ModelSpec(preset="hoeffding_tree"), RATIO_SPEC)
    inputs: list[MetricInput] = []
    for features, label in rows:
        said = model.predict(features)
        inputs.append(metric_input(metric, label, said.value, said.probabilities))
        model.learn(features, label)

    found = judged(write_rows(tmp_path, rows), ModelSpec(preset="hoeffding_tree"), metric=metric)

    assert found.state == "complete"
    assert found.folds == tuple(score_of(metric, inputs[n : n + 30]) for n in range(30, 300, 30))
    assert found.score == pytest.approx(sum(found.folds) / 9)
    assert (found.train_folds, found.train_score, found.gap) == ((), None, None)


@frameworks
@pytest.mark.parametrize("metric", ["accuracy", "f1", "recall", "roc_auc", "pr_auc", "log_loss", "brier"])
def test_a_batch_model_is_scored_on_the_block_after_those_it_learned(tmp_path: Path, metric: str) -> None:
    from sklearn import metrics  # type: ignore[import-untyped]
    from sklearn.tree import DecisionTreeClassifier  # type: ignore[import-untyped]

    rows = [({"a": f["a"], "b": f["b"]}, label) for f, label in ratio_stream(600)]
    x, y = [[f["a"], f["b"]] for f, _ in rows], [label for _, label in rows]
    expected = []
    for end in range(100, 600, 100):
        tree = DecisionTreeClassifier(max_depth=3, random_state=20).fit(x[:end], y[:end])
        said = tree.predict(x[end : end + 100])
        chance = tree.predict_proba(x[end : end + 100])[:, 1].clip(1e-15, 1 - 1e-15)
        truth = y[end : end + 100]
        of = {"roc_auc": "roc_auc_score", "pr_auc": "average_precision_score", "log_loss": "log_loss"}
        of |= {"brier": "brier_score_loss", **{m: f"{m}_score" for m in ("accuracy", "f1", "recall")}}
        is_of_classes = metric in ("accuracy", "f1", "recall")
        expected.append(getattr(metrics, of[metric])(truth, said if is_of_classes else chance))

    found = judged(write_rows(tmp_path, rows), ModelSpec(estimator=TREE, max_depth=3), metric=metric)

    assert found.folds == pytest.approx(expected, rel={"roc_auc": 1e-3, "log_loss": 1e-4}.get(metric, 1e-6))


@frameworks
@pytest.mark.parametrize("metric", ["mae", "rmse", "r2"])
def test_a_regression_is_scored_by_its_metric(tmp_path: Path, metric: str) -> None:
    rows: list[Labelled] = [({"x": float(i % 50)}, 2.0 * (i % 50) + i % 3) for i in range(600)]

    ridge = judged(write_rows(tmp_path, rows), ModelSpec(estimator="sklearn.linear_model.Ridge"), SENSOR, metric)

    assert ridge.score == pytest.approx({"mae": 0.667, "rmse": 0.816, "r2": 0.999}[metric], abs=0.05)
    assert ridge.gap == pytest.approx(0.0, abs=0.05)


@frameworks
def test_an_unlimited_tree_overfits_real_data_more_than_a_shallow_one(tmp_path: Path) -> None:
    write_rows(tmp_path, electricity(3_000))

    unlimited = judged(tmp_path, ModelSpec(estimator=TREE), ELECTRICITY)
    shallow = judged(tmp_path, ModelSpec(estimator=TREE), ELECTRICITY, parameters={"max_depth": 2})

    assert unlimited.train_score == 1.0
    assert unlimited.gap is not None
    assert shallow.gap is not None
    assert unlimited.gap > shallow.gap + 0.1
    assert len(unlimited.train_folds) == len(unlimited.folds) == 5
    assert unlimited.gap == pytest.approx(sum(map(lambda a, b: a - b, unlimited.train_folds, unlimited.folds)) / 5)


@frameworks
def test_of_a_batch_model_with_a_window_only_the_last_rows_are_trained_on(tmp_path: Path) -> None:
    changing: list[Labelled] = [({"a": float(i % 7)}, (i % 7 > 3) ^ (i // 500 % 2 == 1)) for i in range(3_000)]
    write_rows(tmp_path, changing)

    long = judged(tmp_path, ModelSpec(estimator=TREE))
    short = judged(tmp_path, ModelSpec(estimator=TREE), parameters={"window": 100})

    assert short.folds != long.folds


@frameworks
def test_classes_that_were_not_seen_before_a_block_count_as_mistakes(tmp_path: Path) -> None:
    spec = loop_spec(task="multiclass", label={"type": "string"}, schema={"a": {"type": "number"}})
    rows: list[Labelled] = [
        ({"a": float(i % 3)}, "new" if i >= 500 and i % 3 == 2 else f"c{i % 2}") for i in range(600)
    ]

    for metric in ("accuracy", "f1", "log_loss"):
        found = judged(write_rows(tmp_path, rows), ModelSpec(estimator=TREE), spec, metric)
        assert found.state == "complete"
        assert len(found.folds) == 5


@frameworks
def test_texts_and_missing_numbers_are_columns_as_in_a_training(tmp_path: Path) -> None:
    rows: list[Labelled] = [
        ({"a": None if i % 5 == 0 else 1.0, "b": 2.0, "c": "yes" if i % 2 else "no"}, i % 2 == 1) for i in range(600)
    ]

    found = judged(write_rows(tmp_path, rows), ModelSpec(estimator="sklearn.linear_model.LogisticRegression"))

    assert found.score == 1.0


@pytest.mark.parametrize(
    ("model", "parameters", "reason"),
    [
        (ModelSpec(preset="hoeffding_tree"), {"no_such": 3}, "models.0.no_such: is not a parameter"),
        (ModelSpec(preset="adaptive_forest"), {"trees": 4000}, "models.0.trees"),
        (ModelSpec(preset="hoeffding_tree"), {"estimator": "river.tree.X"}, "models.0.estimator: is no parameter"),
        (ModelSpec(preset="hoeffding_tree"), {"scale": "sideways"}, "models.0.scale"),
        (ModelSpec(trainer="notebook"), {"rate": 1.0}, "trained elsewhere cannot be tried here"),
        (ModelSpec(estimator=TREE), {"max_depth": -1}, "models.0.max_depth: must be"),
        (ModelSpec(estimator=TREE), {"no_such": 1}, "models.0.no_such: is no parameter"),
        (ModelSpec(estimator="sklearn.tree.NoSuchTree"), {}, "models.0.estimator: sklearn.tree.NoSuchTree is not"),
    ],
)
def test_parameters_that_a_model_does_not_take_fail_the_trial_with_the_field(
    tmp_path: Path, model: ModelSpec, parameters: dict[str, Any], reason: str
) -> None:
    found = judged(write_rows(tmp_path, ratio_stream(100)), model, parameters=parameters)

    assert found.state == "failed"
    assert found.reason is not None
    assert reason in found.reason


@frameworks
def test_what_a_library_raises_fails_the_trial(tmp_path: Path) -> None:
    model = ModelSpec(estimator="sklearn.neighbors.KNeighborsClassifier", n_neighbors=100)

    found = judged(write_rows(tmp_path, ratio_stream(120)), model)

    assert found.state == "failed"
    assert "n_neighbors" in (found.reason or "")
    personal = RATIO_SPEC.model_dump(by_alias=True)
    personal["schema"] = {name: {**field, "personal": True} for name, field in personal["schema"].items()}
    silent = judged(tmp_path, model, LoopSpec.model_validate(personal))
    assert (silent.state, "is not told" in (silent.reason or "")) == ("failed", True)
    assert "n_neighbors" not in (silent.reason or "")


def test_a_model_that_predicts_what_is_no_number_fails_the_trial(tmp_path: Path) -> None:
    rows: list[Labelled] = [({"x": (-1.0) ** i * 1e300}, 1e19 * (i % 3)) for i in range(200)]
    model = ModelSpec(estimator="river.linear_model.LinearRegression", learning_rate=10, l2=1000)

    found = judged(write_rows(tmp_path, rows), model, SENSOR)

    assert found.state == "failed"
    assert found.reason == "the prediction is -inf"


def test_a_trial_that_is_behind_ends_as_pruned(tmp_path: Path) -> None:
    write_rows(tmp_path, ratio_stream(300))

    found = judged(tmp_path, ModelSpec(preset="logistic"), thresholds=(None, None, 1.1))

    assert (found.state, len(found.folds)) == ("pruned", 3)
    assert judged(tmp_path, ModelSpec(preset="logistic"), thresholds=(0.0,) * 9).state == "complete"
    assert judged(tmp_path, ModelSpec(preset="logistic"), metric="log_loss", thresholds=(0.0,)).state == "pruned"


def test_a_metric_that_no_fold_defines_fails_the_trial(tmp_path: Path) -> None:
    rows: list[Labelled] = [({"a": 1.0}, i < 10) for i in range(200)]

    found = judged(write_rows(tmp_path, rows), ModelSpec(preset="logistic"), metric="roc_auc")

    assert (found.state, found.reason) == ("failed", "roc_auc is undefined in every fold of these rows")


@frameworks
def test_a_feature_is_tried_beside_those_that_are_there(tmp_path: Path) -> None:
    write_rows(tmp_path, ratio_stream(600, noise=0.0))
    ratio = FeatureSpec(name="ratio", expr="a / b")

    for model in (ModelSpec(preset="hoeffding_tree"), ModelSpec(estimator=TREE)):
        without, with_it = judged(tmp_path, model), judged(tmp_path, model, feature=ratio)
        assert with_it.score is not None
        assert without.score is not None
        assert with_it.score > without.score + 0.02
