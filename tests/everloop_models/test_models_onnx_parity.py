"""Models of scikit-learn, XGBoost and LightGBM predict as ONNX what they predict themselves, whatever the labels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from tests.builders.loops import loop_spec
from tests.builders.onnx_models import normalised

from everloop_metrics import class_name
from everloop_models import ModelPrediction
from everloop_models.formats.onnx.format import load
from everloop_schemas.envelope import Fields
from everloop_schemas.loop import LoopSpec

pytestmark = [pytest.mark.frameworks, pytest.mark.usefixtures("one_thread")]
pytest.importorskip("skl2onnx")
ROWS, NAMES = 1_000, tuple("abcde")
RNG = np.random.default_rng(7)
X = RNG.normal(size=(2 * ROWS, len(NAMES))).astype(np.float32)
THIRDS = (X[:, 0] > 0).astype(int) + (X[:, 1] + X[:, 2] > 0.3)
LABELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "booleans": (X[:, 0] + X[:, 1] * X[:, 2] > 0, {"task": "binary"}),
    "text": (np.array(["low", "middle", "high"])[THIRDS], {"task": "multiclass"}),
    "named": (
        np.array(["low", "middle", "high"])[THIRDS],
        {"task": "multiclass", "label": {"classes": ["low", "middle", "high"]}},
    ),
    "integers": (np.array([3, 7, 11])[THIRDS], {"task": "multiclass", "label": {"type": "integer"}}),
    "numbers of classes": (THIRDS, {"task": "multiclass", "label": {"classes": ["low", "middle", "high"]}}),
}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads that wait for each other take long on a busy machine."""
    with pytest.importorskip("threadpoolctl").threadpool_limits(1):
        yield


def models(kind: str) -> dict[str, Callable[[], Any]]:
    """The classifiers, or the regressors, of scikit-learn."""
    from sklearn import ensemble, linear_model  # type: ignore[import-untyped]

    if kind == "regression":
        return {
            "linear": linear_model.Ridge,
            "forest": lambda: ensemble.RandomForestRegressor(20, random_state=0),
            "boosting": lambda: ensemble.HistGradientBoostingRegressor(max_iter=10),
        }
    return {
        "logistic": linear_model.LogisticRegression,
        "forest": lambda: ensemble.RandomForestClassifier(20, random_state=0),
        "boosting": lambda: ensemble.HistGradientBoostingClassifier(max_iter=10),
    }


def spec_of(fields: dict[str, Any]) -> LoopSpec:
    return loop_spec(schema={name: {"type": "number"} for name in NAMES}, **fields)


def predictions(data: bytes, spec: LoopSpec) -> list[ModelPrediction]:
    """What the artifact of a file says of the second half of the rows."""
    rows: list[Fields] = [dict(zip(NAMES, row, strict=True)) for row in X[ROWS:].tolist()]
    return load(normalised(data, spec).data).predict_many(rows)


def converted(model: Any, zipmap: bool = False) -> bytes:
    from skl2onnx import to_onnx  # type: ignore[import-untyped]

    options = {"options": {"zipmap": False}} if hasattr(model, "classes_") and not zipmap else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numpy, about what the converter hands to protobuf
        data: bytes = to_onnx(model, X[:1], **options).SerializeToString()
    return data


def check_equal(found: list[ModelPrediction], model: Any, classes: dict[Any, Any]) -> None:
    """The labels are the same but for ties, and the probabilities within what floats of 32 bits hold."""
    keys = [class_name(classes[each]) for each in model.classes_.tolist()]
    table = np.array([[(each.probabilities or {})[key] for key in keys] for each in found])
    expected = model.predict_proba(X[ROWS:])
    np.testing.assert_allclose(table, expected, atol=2e-6)
    first, second = np.sort(expected)[:, -1], np.sort(expected)[:, -2]
    clear = np.flatnonzero(first - second > 1e-5).tolist()
    labels = model.predict(X[ROWS:]).tolist()
    assert [found[i].value for i in clear] == [classes[labels[i]] for i in clear]
    assert len(clear) > 0.97 * ROWS


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("name", ["logistic", "forest", "boosting"])
def test_a_classifier_of_scikit_learn_predicts_the_same_as_onnx(name: str, labels: str) -> None:
    y, fields = LABELS[labels]
    spec, model = spec_of(fields), models("classification")[name]().fit(X[:ROWS], y[:ROWS])
    classes = {each: each for each in model.classes_.tolist()}
    if labels == "numbers of classes":
        classes = dict(enumerate(spec.label.classes or ()))

    check_equal(predictions(converted(model), spec), model, classes)


def test_a_zipmap_is_taken_out_and_its_classes_are_kept() -> None:
    y, fields = LABELS["text"]
    spec, model = spec_of(fields), models("classification")["logistic"]().fit(X[:ROWS], y[:ROWS])
    data = converted(model, zipmap=True)

    assert b"ZipMap" in data
    assert b"ZipMap" not in normalised(data, spec).data
    check_equal(predictions(data, spec), model, {each: each for each in model.classes_.tolist()})


@pytest.mark.parametrize("name", ["linear", "forest", "boosting"])
def test_a_regression_of_scikit_learn_predicts_the_same_as_onnx(name: str) -> None:
    model = models("regression")[name]().fit(X[:ROWS], X[:ROWS, 0] * 3 + X[:ROWS, 1])

    found = predictions(converted(model), spec_of({"task": "regression"}))

    np.testing.assert_allclose([float(each.value) for each in found], model.predict(X[ROWS:]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
@pytest.mark.parametrize("labels", ["booleans", "numbers of classes"])
def test_a_boosted_classifier_of_another_library_predicts_the_same_as_onnx(library: str, labels: str) -> None:
    y, fields = LABELS[labels]
    spec = spec_of(fields)
    model, data = boosted(library, y[:ROWS].astype(int))
    names = dict(enumerate(spec.label.classes or (False, True)))

    check_equal(predictions(data, spec), model, names)


def boosted(library: str, y: Any) -> tuple[Any, bytes]:
    """A model of XGBoost or LightGBM, and what onnxmltools makes of it, with its defaults."""
    pytest.importorskip(library)
    tools = pytest.importorskip("onnxmltools")
    from onnxmltools.convert.common.data_types import FloatTensorType  # type: ignore[import-untyped]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if library == "xgboost":
            from xgboost import XGBClassifier

            model: Any = XGBClassifier(n_estimators=20, n_jobs=1).fit(X[:ROWS], y)
        else:
            from lightgbm import LGBMClassifier

            model = LGBMClassifier(n_estimators=20, n_jobs=1, verbose=-1).fit(X[:ROWS], y)
        convert = getattr(tools, f"convert_{library}")
        inputs = [("input", FloatTensorType([None, len(NAMES)]))]
        return model, convert(model, initial_types=inputs).SerializeToString()
