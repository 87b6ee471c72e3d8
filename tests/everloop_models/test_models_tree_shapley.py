"""What tree ensembles in ONNX files say is divided exactly: by all sets of features, with onnxruntime as the judge."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from tests.builders.loops import loop_spec
from tests.builders.onnx_models import DOUBLE, FLOAT, INT64, model, normalised, port, weights

from everloop_models.explain import explain, score_of
from everloop_models.formats.onnx.format import load
from everloop_models.formats.onnx.model import OnnxModel
from everloop_models.formats.onnx.runtime import Session
from everloop_models.formats.onnx.trees import nodes, shapley
from everloop_models.formats.onnx.usual import USUAL_KEY, write_usual
from everloop_schemas.envelope import Fields
from everloop_schemas.serving import Explanation

NAMES = ("a", "b", "c", "d")
MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
USUAL: Fields = {"a": 0.5, "b": 1.0, "c": 0.0, "d": 2.0}
KINDS = [  # outputs, post_transform, base values
    (1, "NONE", []),  # a regression
    (1, "NONE", [3.0]),
    (2, "LOGISTIC", [0.25]),  # one score for two classes
    (2, "LOGISTIC", []),
    (2, "SOFTMAX", []),
    (3, "SOFTMAX", [0.5, 0.0, -0.5]),
    (3, "NONE", []),
]


def ensemble(
    rng: random.Random, outputs: int, post: str, base: list[float], modes: tuple[str, ...] = MODES, depth: int = 4
) -> dict[str, Any]:
    """Six trees with any comparison, thresholds that values hit, and missing values on either side."""
    kind = "target" if outputs == 1 else "class"
    lone = outputs == 2 and post == "LOGISTIC"
    made: dict[str, Any] = {
        f"nodes_{n}": [] for n in ("treeids", "nodeids", "modes", "featureids", "values", "truenodeids", "falsenodeids")
    }
    made |= {"nodes_missing_value_tracks_true": [], "post_transform": post, **({"base_values": base} if base else {})}
    made |= {f"{kind}_{n}": [] for n in ("treeids", "nodeids", "ids", "weights")}
    made |= {"n_targets": 1} if outputs == 1 else {"classlabels_int64s": list(range(outputs))}

    def add(tree: int, depth: int) -> int:
        number: int = made["nodes_treeids"].count(tree)
        is_leaf = depth == 0 or (depth < 3 and rng.random() < 0.3)
        i = len(made["nodes_modes"])
        made["nodes_treeids"].append(tree)
        made["nodes_nodeids"].append(number)
        made["nodes_modes"].append("LEAF" if is_leaf else rng.choice(modes))
        made["nodes_featureids"].append(0 if is_leaf else rng.randrange(4))
        made["nodes_values"].append(rng.choice([0.0, 0.5, 1.0, 1.5, 2.0]))
        made["nodes_missing_value_tracks_true"].append(rng.randrange(2))
        for name in ("truenodeids", "falsenodeids"):
            made[f"nodes_{name}"].append(0)
        if is_leaf:
            which = [0] if outputs == 1 or lone else range(outputs) if post == "NONE" else [tree % outputs]
            shares = [rng.random() for _ in which]
            for output, share in zip(which, shares, strict=True):
                made[f"{kind}_treeids"].append(tree)
                made[f"{kind}_nodeids"].append(number)
                made[f"{kind}_ids"].append(output)
                made[f"{kind}_weights"].append(
                    share / sum(shares) / 6 if post == "NONE" and outputs > 1 else rng.uniform(-1, 1)
                )
        else:
            made["nodes_truenodeids"][i] = add(tree, depth - 1)
            made["nodes_falsenodeids"][i] = add(tree, depth - 1)
        return number

    for tree in range(6):
        add(tree, depth)
    return made


def file_of(attributes: dict[str, Any], outputs: int, kind: int = FLOAT) -> onnx.ModelProto:
    """A model that is nothing but this ensemble, with usual values in its metadata."""
    name = "TreeEnsembleRegressor" if outputs == 1 else "TreeEnsembleClassifier"
    made_of = ["y"] if outputs == 1 else ["label", "probabilities"]
    node = helper.make_node(name, ["x"], made_of, domain="ai.onnx.ml", **attributes)
    ports = [port("label", INT64, (None,)), port("probabilities", FLOAT, (None, outputs))]
    made = model([node], [port("x", kind, (None, 4))], [port("y")] if outputs == 1 else ports)
    made.metadata_props.add(key=USUAL_KEY, value=write_usual({"a": 0.5, "b": 1.0, "c": 0.0, "d": 2.0}))
    return made


def loaded(made: onnx.ModelProto, outputs: int) -> OnnxModel:
    task = {1: "regression", 2: "binary"}.get(outputs, "multiclass")
    label = {"label": {"type": "integer", "classes": list(range(outputs))}} if outputs > 2 else {}
    schema = {name: {"type": "number", "missing": "null"} for name in NAMES}
    return load(normalised(made, loop_spec(task=task, schema=schema, **label)).data)


def row(rng: random.Random) -> Fields:
    return {name: rng.choice([None, 0.0, 0.5, 1.0, 1.5, 2.0, rng.gauss(1, 1)]) for name in NAMES}


def total(found: Explanation) -> float:
    return found.base + sum(found.contributions.values())


def by_all_sets(features: Fields, score: Callable[[Fields], float]) -> dict[str, float]:
    """Shapley values by their definition."""
    shares = dict.fromkeys(NAMES, 0.0)
    for name in NAMES:
        others = [each for each in NAMES if each != name]
        for size in range(len(others) + 1):
            weight = 1 / (len(NAMES) * math.comb(len(others), size))
            for chosen in combinations(others, size):
                before = {**USUAL, **{each: features[each] for each in chosen}}
                shares[name] += weight * (score({**before, name: features[name]}) - score(before))
    return shares


def raw_scores(attributes: dict[str, Any], outputs: int) -> Callable[[Fields], list[float]]:
    """What onnxruntime sums up for each output before any transformation."""
    session = Session(file_of(attributes | {"post_transform": "NONE"}, outputs).SerializeToString())

    def scores(features: Fields) -> list[float]:
        x = np.array([[math.nan if features[name] is None else features[name] for name in NAMES]], dtype=np.float32)
        [found] = session.run(["y" if outputs == 1 else "probabilities"], {"x": x})[0]
        return [float(each) for each in found]

    return scores


@pytest.mark.parametrize(("outputs", "post", "base"), KINDS)
def test_contributions_are_the_shapley_values_of_the_ensemble_s_score(
    outputs: int, post: str, base: list[float]
) -> None:
    rng = random.Random(outputs * 100 + len(post) + len(base))
    attributes = ensemble(rng, outputs, post, base)
    made, raw = loaded(file_of(attributes, outputs), outputs), raw_scores(attributes, outputs)
    lone = post == "LOGISTIC"

    for _ in range(12):
        features = row(rng)
        prediction = made.predict(features)
        found = explain(made, features, prediction, "id")
        assert found is not None

        column = 0 if outputs == 1 else made.interface.classes.index(prediction.value)

        def score(at: Fields, column: int = column) -> float:
            each = raw(at)
            if lone:
                return each[1] if column else -each[1]
            return each[column] - each[1 - column] if outputs == 2 else each[column]

        assert found.method == "tree"
        assert found.contributions == pytest.approx(by_all_sets(features, score), abs=1e-5)
        assert found.base == pytest.approx(score(USUAL), abs=1e-5)
        _, said = score_of(prediction)
        assert said == pytest.approx(said_by(found, raw(features), column), abs=1e-5)


def said_by(found: Explanation, raw: list[float], column: int) -> float:
    """The probability, or the value, that follows from the explanation."""
    if found.scale == "log_odds":
        return 1 / (1 + math.exp(-total(found)))
    if found.scale == "margin":
        rest = sum(math.exp(each) for i, each in enumerate(raw) if i != column)
        return math.exp(total(found)) / (math.exp(total(found)) + rest)
    return total(found)


@pytest.mark.parametrize("modes", [(mode,) for mode in MODES])
def test_each_comparison_alone_is_followed_also_for_missing_values(modes: tuple[str, ...]) -> None:
    rng = random.Random(7)
    made = loaded(file_of(ensemble(rng, 1, "NONE", [1.0], modes), 1), 1)

    for _ in range(40):
        features = row(rng)
        prediction = made.predict(features)
        found = explain(made, features, prediction, "id")

        assert found is not None
        assert (found.method, found.scale) == ("tree", "value")
        assert total(found) == pytest.approx(prediction.value, abs=1e-5)


def test_a_mean_of_trees_and_columns_in_double_precision_are_explained() -> None:
    rng = random.Random(8)
    attributes = ensemble(rng, 1, "NONE", [1.0]) | {"aggregate_function": "AVERAGE"}
    made = loaded(file_of(attributes, 1, DOUBLE), 1)
    features: Fields = {"a": 0.5 + 1e-9, "b": 1.0, "c": None, "d": 1.5}

    found = explain(made, features, made.predict(features), "id")

    assert found is not None
    assert found.method == "tree"
    assert total(found) == pytest.approx(made.predict(features).value, abs=1e-5)


@pytest.mark.parametrize("operator", ["Mul", "Div"])
def test_a_value_that_is_a_multiple_of_the_ensemble_s_is_explained(operator: str) -> None:
    file = file_of(ensemble(random.Random(14), 1, "NONE", [1.0]), 1)
    file.graph.node[0].output[0] = "before"
    file.graph.initializer.append(weights("by", [4.0]))
    file.graph.node.append(helper.make_node(operator, ["before", "by"], ["y"]))
    made = loaded(file, 1)
    features: Fields = {"a": 2.0, "b": 0.0, "c": None, "d": 0.5}

    found = explain(made, features, made.predict(features), "id")

    assert found is not None
    assert found.method == "tree"
    assert found.base == pytest.approx(made.predict(USUAL).value, abs=1e-5)
    assert total(found) == pytest.approx(made.predict(features).value, abs=1e-5)


def test_a_feature_that_is_missing_altogether_contributes_nothing_and_the_sum_holds() -> None:
    rng = random.Random(9)
    made = loaded(file_of(ensemble(rng, 1, "NONE", []), 1), 1)
    features: Fields = {"a": 2.0, "unknown": 7.0}

    found = explain(made, features, made.predict(features), "id")

    assert found is not None
    assert found.method == "tree"
    assert set(found.contributions) == {"a", "unknown"}
    assert found.contributions["unknown"] == 0.0
    assert total(found) == pytest.approx(made.predict(features).value, abs=1e-5)


def mixing_columns(made: onnx.ModelProto) -> None:
    """Put a matrix product in front of the ensemble."""
    made.graph.initializer.append(weights("w", [1.0, 0.5] * 8, dims=(4, 4)))
    made.graph.node.insert(0, helper.make_node("MatMul", ["x", "w"], ["mixed"]))
    made.graph.node[1].input[0] = "mixed"


def adding_to_the_score(made: onnx.ModelProto) -> None:
    """Put an exponential behind the ensemble."""
    made.graph.node[0].output[0] = "before"
    made.graph.node.append(helper.make_node("Exp", ["before"], ["y"]))


def taking_the_largest(made: onnx.ModelProto) -> None:
    made.graph.node[0].attribute.append(helper.make_attribute("aggregate_function", "MAX"))


@pytest.mark.parametrize("change", [mixing_columns, adding_to_the_score, taking_the_largest])
def test_what_is_not_a_sum_of_trees_over_features_is_explained_by_permutations(
    change: Callable[[onnx.ModelProto], None],
) -> None:
    rng = random.Random(10)
    file = file_of(ensemble(rng, 1, "NONE", [1.0]), 1)
    change(file)
    made = loaded(file, 1)
    features: Fields = {"a": 2.0, "b": 0.0, "c": 1.0, "d": 0.5}

    found = explain(made, features, made.predict(features), "id", seconds=60)

    assert found is not None
    assert (made.has_attribution, found.method) == (False, "permutation")
    assert total(found) == pytest.approx(made.predict(features).value, abs=1e-5)


@pytest.mark.parametrize("limit", ["MAX_NODES", "MAX_DEPTH", "MAX_STEPS", "MAX_CELLS"])
def test_trees_beyond_a_limit_are_explained_by_permutations(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = nodes if hasattr(nodes, limit) and limit in ("MAX_NODES", "MAX_DEPTH") else shapley
    monkeypatch.setattr(module, limit, 3)
    made = loaded(file_of(ensemble(random.Random(11), 1, "NONE", [1.0]), 1), 1)
    features: Fields = {"a": 2.0, "b": 0.0, "c": 1.0, "d": 0.5}

    found = explain(made, features, made.predict(features), "id", seconds=60)

    assert found is not None
    assert found.method == "permutation"
    assert total(found) == pytest.approx(made.predict(features).value, abs=1e-5)


def test_where_onnxruntime_computes_otherwise_than_the_standard_says_the_difference_is_seen() -> None:
    rng = random.Random(13)
    made = loaded(file_of(ensemble(rng, 2, "SOFTMAX", [0.1, -0.2]), 2), 2)  # it takes one of the two base values
    features: Fields = {"a": 2.0, "b": 0.0, "c": 1.0, "d": 0.5}

    prediction = made.predict(features)
    found = explain(made, features, prediction, "id", seconds=60)

    assert found is not None
    assert (made.has_attribution, found.method) == (True, "permutation")
    assert total(found) == pytest.approx(score_of(prediction)[1], abs=1e-5)


def test_nodes_that_lead_back_to_themselves_are_no_trees() -> None:
    attributes = ensemble(random.Random(12), 1, "NONE", [])
    first = attributes["nodes_modes"].index("LEAF")
    attributes["nodes_modes"][first], attributes["nodes_truenodeids"][first] = "BRANCH_LEQ", 1
    node = file_of(attributes, 1).graph.node[0]

    with pytest.raises(nodes.NotSupported):
        nodes.read_nodes(nodes.attributes_of(node))
