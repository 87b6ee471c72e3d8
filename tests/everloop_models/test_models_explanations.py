"""What features contributed sums to the score of each family of models, and is what brute force says on small ones."""

from __future__ import annotations

import math
import random
from functools import cache
from itertools import pairwise, permutations
from typing import Any, ClassVar

import pytest

from everloop_models import ModelPrediction, OnlineModel, build, save
from everloop_models.explain import explain, importance_of
from everloop_models.explain.evidence import share_evidence
from everloop_models.explain.permutation import MAX_CALLS, MAX_GROUPS
from everloop_schemas.envelope import Fields, Scalar
from everloop_schemas.loop import LoopSpec
from everloop_schemas.serving import Explanation

PRESETS = [
    ("binary", {"preset": "logistic"}, "linear"),
    ("multiclass", {"preset": "logistic"}, "linear"),
    ("regression", {"preset": "linear"}, "linear"),
    ("binary", {"preset": "logistic", "scale": "standard"}, "linear"),
    ("binary", {"preset": "hoeffding_tree"}, "tree"),
    ("multiclass", {"preset": "hoeffding_tree"}, "tree"),
    ("regression", {"preset": "hoeffding_tree"}, "tree"),
    ("binary", {"preset": "adaptive_forest", "trees": 3}, "tree"),
    ("multiclass", {"preset": "adaptive_forest", "trees": 3}, "tree"),
    ("regression", {"preset": "adaptive_forest", "trees": 4}, "tree"),
    ("binary", {"preset": "leveraging_bagging", "models": 3}, "tree"),
    (
        "binary",
        {"estimator": "river.tree.HoeffdingTreeClassifier", "leaf_prediction": "mc", "grace_period": 30},
        "tree",
    ),
    ("regression", {"estimator": "river.tree.HoeffdingTreeRegressor", "grace_period": 30}, "tree"),
    ("binary", {"preset": "naive_bayes"}, "permutation"),
    ("binary", {"estimator": "river.neighbors.KNNClassifier", "n_neighbors": 3}, "permutation"),
]
HOSTILE: list[Fields] = [
    {"a": None, "b": None, "c": None, "n": None},
    {"a": 1e308, "b": "x" * 1_000, "c": True, "n": -1e308},
    {"a": 0.2, "b": "unseen", "c": False, "n": 0.0, "unseen": 1.0},
    {},
]


def spec_of(task: str, **model: Any) -> LoopSpec:
    fields = {"a": "number", "b": "string", "c": "boolean", "n": "number"}
    schema = {name: {"type": kind, "missing": "null"} for name, kind in fields.items()}
    return LoopSpec.model_validate({"loop": "x", "task": task, "schema": schema, "models": [model]})


def row(i: int, task: str) -> tuple[Fields, Scalar]:
    rng = random.Random(i)
    a, b = rng.random(), rng.choice("xyz")
    y = a + 0.3 * (b == "x")
    labels: dict[str, Scalar] = {
        "binary": y > 0.6,
        "multiclass": "low" if y < 0.4 else "middle" if y < 0.8 else "high",
        "regression": 100 * y,
    }
    return {"a": a, "b": b, "c": i % 2 == 0, "n": rng.gauss(0, 1)}, labels[task]


def trained(task: str, model: dict[str, Any], rows: int = 800) -> OnlineModel:
    """A model that explaining does not change, which tests share."""
    return _trained(task, tuple(model.items()), rows)


@cache
def _trained(task: str, model: tuple[tuple[str, Any], ...], rows: int) -> OnlineModel:
    spec = spec_of(task, **dict(model))
    made = build(spec.models[0], spec)
    for i in range(rows):
        made.learn(*row(i, task))
    return made


def total(explanation: Explanation) -> float:
    return explanation.base + sum(explanation.contributions.values())


def score_by(explanation: Explanation, prediction: ModelPrediction) -> float:
    """What the explanation has to sum to, from what a client sees."""
    if explanation.of is None:
        return float(prediction.value)
    assert prediction.probabilities is not None, "these classifiers have probabilities"
    probability = prediction.probabilities[explanation.of]
    return math.log(probability / (1 - probability)) if explanation.method == "linear" else probability


@pytest.mark.parametrize(("task", "model", "method"), PRESETS)
def test_contributions_sum_to_the_score_of_what_was_predicted(task: str, model: dict[str, Any], method: str) -> None:
    made = trained(task, model)

    for i in range(900, 940):
        features, _ = row(i, task)
        prediction = made.predict(features)
        found = explain(made, features, prediction, f"id-{i}", seconds=60)

        assert found is not None
        assert found.method == method
        assert set(found.contributions) == set(features)
        if not (task == "multiclass" and method == "linear"):
            assert total(found) == pytest.approx(score_by(found, prediction), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("task", "model", "method"), PRESETS)
def test_what_the_label_follows_from_contributes_most(task: str, model: dict[str, Any], method: str) -> None:
    made, sizes = trained(task, model), dict.fromkeys("abcn", 0.0)

    for i in range(900, 960):
        features, _ = row(i, task)
        found = explain(made, features, made.predict(features), "id", seconds=60)
        assert found is not None
        for name, share in found.contributions.items():
            sizes[name] += abs(share)

    assert max(sizes, key=sizes.__getitem__) in ("a", "b")
    assert sizes["a"] + sizes["b"] > sizes["c"] + sizes["n"]


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_one_class_against_the_rest_is_explained_by_its_own_log_odds(task: str) -> None:
    made = trained(task, {"preset": "logistic"})
    features, _ = row(901, task)
    prediction = made.predict(features)

    found = explain(made, features, prediction, "id")

    assert found is not None
    own = 1 / (1 + math.exp(-total(found)))
    estimator = made.estimator  # type: ignore[attr-defined]
    numbers, hot = made.encoder.encode(features)  # type: ignore[attr-defined]
    x = {**made.scaler.transform_one(numbers), **hot}  # type: ignore[attr-defined]
    before = estimator if task == "binary" else estimator.classifiers[prediction.value]
    said = before.predict_proba_one(x)[prediction.value if task == "binary" else True]
    assert own == pytest.approx(said)


def test_an_irrelevant_feature_contributes_nothing() -> None:
    tree = trained("binary", {"estimator": "river.tree.HoeffdingTreeClassifier", "leaf_prediction": "mc"}, 3000)
    linear = trained("binary", {"preset": "logistic"})
    features, _ = row(901, "binary")
    constant = {**features, "always": 1.0}

    by_path = explain(tree, features, tree.predict(features), "id")
    by_weight = explain(linear, constant, linear.predict(constant), "id")

    assert by_path is not None
    assert by_weight is not None
    assert by_path.method == "tree"
    assert by_path.contributions["a"] != 0.0
    assert by_path.contributions["c"] == by_path.contributions["n"] == 0.0
    assert by_weight.contributions["always"] == 0.0


def test_a_split_contributes_what_the_shares_before_and_after_it_differ_by() -> None:
    made = trained("binary", {"estimator": "river.tree.HoeffdingTreeClassifier", "leaf_prediction": "mc"}, 3000)
    root: Any = vars(made.estimator)["_root"]  # type: ignore[attr-defined]
    features, _ = row(905, "binary")
    prediction = made.predict(features)

    found = explain(made, features, prediction, "id")

    def share(node: Any) -> float:
        return float(node.stats[prediction.value] / sum(node.stats.values()))

    node, by_hand = root, dict.fromkeys(features, 0.0)
    while hasattr(node, "children"):
        after = node.children[0 if features[node.feature] <= node.threshold else 1]
        by_hand[node.feature] += share(after) - share(node)
        node = after
    assert found is not None
    assert found.base == pytest.approx(share(root))
    assert found.contributions == pytest.approx(by_hand)


def test_evidence_is_shared_as_shapley_values_are() -> None:
    prior = {True: math.log(0.3), False: math.log(0.7)}
    evidence = {"u": {True: 1.0, False: -0.5}, "v": {True: 0.2, False: 0.9}}

    shares = share_evidence(prior, evidence, True)

    def probability(names: tuple[str, ...]) -> float:
        logs = {of: log + sum(evidence[name][of] for name in names) for of, log in prior.items()}
        return math.exp(logs[True]) / sum(map(math.exp, logs.values()))

    orders = list(permutations(evidence))
    assert shares == pytest.approx(
        {
            name: sum(probability(o[: o.index(name) + 1]) - probability(o[: o.index(name)]) for o in orders)
            / len(orders)
            for name in evidence
        }
    )


class Function:
    """A model that is a function of features, beside the usual values 0; it counts its calls."""

    format: ClassVar[str] = "test"
    signature: tuple[str, ...] = ()

    def __init__(self, function: Any) -> None:
        self.function, self.calls = function, 0

    def predict(self, features: Fields) -> ModelPrediction:
        self.calls += 1
        return ModelPrediction(self.function(features), None)

    def reference(self, features: Fields) -> Fields:
        return dict.fromkeys(features, 0.0)


def test_permutations_give_shapley_values_of_interactions_and_nothing_to_what_is_not_used() -> None:
    model = Function(lambda x: 2 * x["u"] * x["v"] + 3 * x["u"] + 1)
    features: Fields = {"u": 2.0, "v": 5.0, "w": 7.0}

    found = explain(model, features, model.predict(features), "id")

    assert found is not None
    assert found.base == 1.0
    assert found.contributions == pytest.approx({"u": 16.0, "v": 10.0, "w": 0.0})


def test_an_equal_id_gives_an_equal_explanation_within_a_bounded_number_of_calls() -> None:
    names = [f"f{n}" for n in range(150)]
    model = Function(lambda x: sum(x[n] * x[m] for n, m in pairwise(names)))
    features: Fields = {name: 1.0 + n % 3 for n, name in enumerate(names)}
    prediction = model.predict(features)
    model.calls = 0

    first = explain(model, features, prediction, "id", seconds=60)
    calls = model.calls
    again = explain(model, features, prediction, "id", seconds=60)
    other = explain(model, features, prediction, "other", seconds=60)

    assert first == again != other
    assert MAX_GROUPS < calls <= MAX_CALLS
    assert first is not None
    assert total(first) == pytest.approx(prediction.value)


def test_an_explanation_that_would_take_too_long_is_given_up() -> None:
    model, now = Function(lambda x: sum(x.values())), iter(range(1_000))

    found = explain(model, {"u": 1.0, "v": 2.0}, ModelPrediction(3.0, None), "id", seconds=0.1, timer=lambda: next(now))

    assert found is None
    assert model.calls == 2


def test_shapley_values_of_few_features_are_those_of_all_orders() -> None:
    names = ("u", "v", "w", "x")
    model = Function(lambda x: x["u"] * x["v"] * x["w"] + max(x["u"], x["x"]) - x["v"] ** 2)
    features: Fields = {"u": 2.0, "v": 5.0, "w": 7.0, "x": 3.0}

    found = explain(model, features, model.predict(features), "id")

    by_hand, orders = dict.fromkeys(names, 0.0), list(permutations(names))
    for order in orders:
        row_before: Fields = dict.fromkeys(names, 0.0)
        for name in order:
            row_after = {**row_before, name: features[name]}
            by_hand[name] += (model.function(row_after) - model.function(row_before)) / len(orders)
            row_before = row_after
    assert found is not None
    assert found.contributions == pytest.approx(by_hand)


@pytest.mark.parametrize(("task", "model", "method"), PRESETS)
@pytest.mark.parametrize("rows", [0, 1, 40])
def test_hostile_values_and_young_models_are_explained_or_not_but_never_raise(
    task: str, model: dict[str, Any], method: str, rows: int
) -> None:
    made = trained(task, model, rows)

    for features in HOSTILE:
        found = explain(made, features, made.predict(features), "id")

        assert found is None or math.isfinite(total(found))
        assert found is None or set(features) <= set(found.contributions)


def test_a_model_that_raises_while_it_is_explained_has_no_explanation() -> None:
    def fails(features: Fields) -> float:
        raise RuntimeError("broken")

    assert explain(Function(fails), {"u": 1.0}, ModelPrediction(1.0, None), "id") is None


@pytest.mark.parametrize(("task", "model", "method"), PRESETS)
def test_importance_sums_to_one_and_names_what_the_label_follows_from(
    task: str, model: dict[str, Any], method: str
) -> None:
    made, rows = trained(task, model), [row(i, task)[0] for i in range(900, 950)]
    before = save(made).sha256

    found = importance_of(made, rows, seconds=60)

    assert found is not None
    assert sum(found.values()) == pytest.approx(1)
    assert found["a"] + found["b"] > found["c"] + found["n"]
    assert save(made).sha256 == before
    if model.get("estimator") != "river.neighbors.KNNClassifier":  # its copies draw other numbers than it
        assert importance_of(made, rows, seconds=60) == found


def test_there_is_no_importance_without_observations_or_where_nothing_contributes() -> None:
    assert importance_of(Function(lambda x: 1.0), []) is None
    assert importance_of(Function(lambda x: 1.0), [{"u": 1.0}]) is None
    assert importance_of(Function(lambda x: math.inf), [{"u": 1.0}]) is None


def test_the_time_for_an_importance_is_bounded() -> None:
    model, now = Function(lambda x: sum(x.values())), iter(range(1_000))

    importance_of(model, [{"u": 1.0, "v": 2.0}] * 100, seconds=0.5, timer=lambda: next(now))

    assert model.calls == 0
