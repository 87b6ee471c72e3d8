"""Writes the catalogue: `python -m everloop_models.batch.survey` trains and converts every estimator of the libraries.

The file is committed; a test compares its parameters with those of the installed libraries, and `--check` all of it,
in a minute. It changes with the libraries, and with what is tried here.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from difflib import ndiff
from numbers import Integral
from random import Random
from typing import Any

from sklearn.base import ClassifierMixin  # type: ignore[import-untyped]
from sklearn.utils import all_estimators  # type: ignore[import-untyped]

from everloop_models.batch.catalogue import FILE
from everloop_models.batch.fit import train
from everloop_models.batch.parameters import Kind
from everloop_models.batch.pipeline import estimator_class
from everloop_models.batch.rows import Row
from everloop_models.errors import ModelBroken
from everloop_schemas.envelope import Scalar
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import ModelSpec

SEEDS = (0, 2**32 - 1)
MAX_INTEGER, MAX_NUMBER = 10_000, 1e6
MOST = {"n_estimators": 2_000, "max_iter": 10_000, "max_depth": 64, "max_bins": 255, "max_bin": 1_024, "cv": 10}
"""By parameter, the largest number that a spec may give; for others, one of the two above."""
NOT_IN_A_SPEC = {
    *("n_jobs", "verbose", "warm_start", "copy", "copy_X", "copy_X_train", "oob_score", "cache_size", "cv"),
    *("categorical_features", "scoring", "break_ties", "probability", "decision_function_shape", "positive"),
    *("metric", "p", "algorithm", "store_cv_results", "store_covariance", "assume_centered", "fit_path"),
}
"""Parameters of scikit-learn about threads, output, memory and objects, or that ONNX has no equal for."""
NUMBERS: dict[str, dict[str, list[Kind]]] = {
    "xgboost": {
        **{name: [Kind("number", 0, MAX_NUMBER)] for name in ("gamma", "reg_alpha", "reg_lambda", "min_child_weight")},
        **{name: [Kind("number", 0, 1, above=True)] for name in ("learning_rate", "subsample", "colsample_bytree")},
        **{name: [Kind("number", 0, 1, above=True)] for name in ("colsample_bylevel", "colsample_bynode")},
        "scale_pos_weight": [Kind("number", 0, MAX_NUMBER, above=True)],
        "max_delta_step": [Kind("number", 0, MAX_NUMBER)],
        "n_estimators": [Kind("integer", 1, MOST["n_estimators"])],
        "max_depth": [Kind("integer", 0, MOST["max_depth"])],
        "max_leaves": [Kind("integer", 0, MAX_INTEGER)],
        "max_bin": [Kind("integer", 2, MOST["max_bin"])],
        "num_parallel_tree": [Kind("integer", 1, 100)],
        "random_state": [Kind("integer", 0, 2**31 - 1)],
        "grow_policy": [Kind("text", texts=("depthwise", "lossguide"))],
    },
    "lightgbm": {
        **{name: [Kind("number", 0, MAX_NUMBER)] for name in ("reg_alpha", "reg_lambda", "min_split_gain")},
        **{name: [Kind("number", 0, 1, above=True)] for name in ("learning_rate", "subsample", "colsample_bytree")},
        "min_child_weight": [Kind("number", 0, MAX_NUMBER)],
        "n_estimators": [Kind("integer", 1, MOST["n_estimators"])],
        "num_leaves": [Kind("integer", 2, 4_096)],
        "max_depth": [Kind("integer", -1, MOST["max_depth"])],
        "min_child_samples": [Kind("integer", 0, MAX_INTEGER)],
        "subsample_freq": [Kind("integer", 0, MAX_INTEGER)],
        "subsample_for_bin": [Kind("integer", 1, 1_000_000)],
        "random_state": [Kind("integer", 0, 2**31 - 1)],
    },
}
"""The parameters of libraries that do not say what each may be."""
BOOSTING = {
    "xgboost.XGBClassifier": {},
    "xgboost.XGBRegressor": {},
    "lightgbm.LGBMClassifier": {"class_weight": [Kind("text", texts=("balanced",)), Kind("none")]},
    "lightgbm.LGBMRegressor": {
        "objective": [Kind("text", texts=("regression", "regression_l1", "huber", "fair", "quantile", "mape"))]
    },
}
SKIPPED = ("GaussianProcess", "TheilSen", "LogisticRegressionCV", "PassiveAggressive", "MultiTask")
"""Estimators that are too slow for a window of outcomes, about to be removed, or for several labels at once."""


def survey() -> str:
    """The catalogue as JSON: estimators by path, with the tasks that each was equal in and what it takes."""
    found: dict[str, Any] = {}
    for path, parameters in sorted(_candidates()):
        possible = ("binary", "multiclass") if issubclass(estimator_class(path), ClassifierMixin) else ("regression",)
        if tasks := [task for task in possible if _is_equal(path, task)]:
            kinds = {name: [str(kind) for kind in kinds] for name, kinds in sorted(parameters.items())}
            found[path] = {"tasks": tasks, "parameters": kinds}
    return json.dumps(found, indent=1) + "\n"


def _candidates() -> Iterator[tuple[str, dict[str, list[Kind]]]]:
    for kind in ("classifier", "regressor"):
        for name, cls in all_estimators(type_filter=kind):
            if _is_plain(cls) and not name.startswith(SKIPPED):
                package = cls.__module__.partition("._")[0]
                yield f"{package}.{name}", parameters_of(cls)
    for path, more in BOOSTING.items():
        yield path, {**NUMBERS[path.partition(".")[0]], **more}


def parameters_of(cls: Any) -> dict[str, list[Kind]]:
    """What scikit-learn says that each parameter of an estimator may be, as far as a spec can give it."""
    named = {name: of for name, of in cls._parameter_constraints.items() if name not in NOT_IN_A_SPEC}
    taken = cls().get_params()
    found = {name: _kinds(name, of) for name, of in named.items() if name in taken}
    return {name: kinds for name, kinds in found.items() if kinds}


def _is_plain(cls: Any) -> bool:
    """Whether it can be made without arguments."""
    try:
        cls()
    except TypeError:
        return False
    return True


def _kinds(name: str, constraints: Any) -> list[Kind]:
    if isinstance(constraints, str):
        return []
    found: list[Kind] = []
    for each in constraints:
        what = type(each).__name__
        if each is None:
            found.append(Kind("none"))
        elif isinstance(each, str) and each == "boolean":
            found.append(Kind("boolean"))
        elif isinstance(each, str) and each == "random_state":
            found.append(Kind("integer", *SEEDS))
        elif what in ("Interval", "RealNotInt"):
            found.append(_interval(name, each))
        elif what == "StrOptions":
            found.append(Kind("text", texts=tuple(sorted(each.options - each.deprecated))))
    return found if any(kind.name != "none" for kind in found) else []


def _interval(name: str, of: Any) -> Kind:
    whole = of.type is Integral
    largest = MOST.get(name, MAX_INTEGER) if whole else MAX_NUMBER
    low = -largest if of.left is None else max(float(of.left), -largest)
    high = largest if of.right is None else min(float(of.right), largest)
    above = of.left is not None and of.closed in ("right", "neither")
    return Kind("integer" if whole else "number", low, high, above)


def _is_equal(path: str, task: str) -> bool:
    """Whether a model with default parameters trains, and becomes an equal ONNX model."""
    label = {"type": {"binary": "boolean", "multiclass": "string", "regression": "number"}[task]}
    fields = {name: {"type": "number", "missing": "null"} for name in ("a", "b", "c")}
    spec = LoopSpec.model_validate({"loop": "x", "task": task, "schema": fields, "label": label})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            train(ModelSpec(estimator=path), spec, sample_rows(task, texts=False))
        except ModelBroken as e:
            sys.stderr.write(f"{path} {task}: {e!s:.200}\n")
            return False
    return True


def sample_rows(task: str, count: int = 400, texts: bool = True) -> list[Row]:
    """Rows with missing numbers, an integer and a text, whose label follows from them but for some noise."""
    random, rows = Random(7), []
    for _ in range(count):
        a, b, c = random.gauss(0, 1), random.gauss(5, 2), random.randrange(5)
        word = random.choice(("red", "green", "blue"))
        score = a + (b - 5) * 0.5 + (1.5 if word == "red" else 0.0) + random.gauss(0, 0.2)
        labels: dict[str, Scalar] = {
            "binary": score > 0.5,
            "multiclass": ("low", "middle", "high")[min(2, max(0, int(score + 1)))],
            "regression": round(3 * score + 10, 3),
        }
        features: dict[str, Scalar | None] = {"a": a, "b": b if random.random() < 0.9 else None, "c": c}
        rows.append(Row({**features, "word": word} if texts else features, labels[task]))
    return rows


def main() -> int:
    """Write the file; with `--check` exit with 1 where it would change."""
    new, old = survey(), FILE.read_text() if FILE.exists() else ""
    if "--check" not in sys.argv:
        FILE.write_text(new)
        return 0
    sys.stdout.writelines(line for line in ndiff(old.splitlines(True), new.splitlines(True)) if line[0] in "+-")
    return int(new != old)


if __name__ == "__main__":
    raise SystemExit(main())
