"""From a fitted pipeline to an ONNX model of one input of numbers, one of texts, and outputs for its task."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence, Set
from functools import cache
from typing import Any

import numpy as np
import onnx
from skl2onnx import convert_sklearn, update_registered_converter  # type: ignore[import-untyped]
from skl2onnx.common.data_types import FloatTensorType, StringTensorType  # type: ignore[import-untyped]
from skl2onnx.common.shape_calculator import (  # type: ignore[import-untyped]
    calculate_linear_classifier_output_shapes,
    calculate_linear_regressor_output_shapes,
)

from everloop_models.batch.rows import Columns
from everloop_models.errors import ModelBroken
from everloop_models.formats.onnx.interface import Interface, ModelInput
from everloop_models.formats.onnx.normalise import write_interface
from everloop_models.formats.onnx.structure import opset_of
from everloop_models.formats.onnx.usual import USUAL_KEY, write_usual
from everloop_schemas.envelope import Scalar
from everloop_schemas.loop import Task

NUMBERS, TEXTS, LABEL, PROBABILITIES, VALUE = "numbers", "texts", "label", "probabilities", "value"
"""Names of inputs and outputs."""
LIBRARIES_KEY = "everloop.libraries"
"""In the file's metadata: the versions of what it was trained and converted with, as JSON."""
OPSETS = {"": 15, "ai.onnx.ml": 3}
"""Every converter writes these, and every release of onnxruntime that Everloop takes runs them."""
CLASSIFIER_OPTIONS = {"nocl": [True, False], "zipmap": [True, False, "columns"]}


def to_onnx(
    pipeline: Any,
    columns: Columns,
    task: Task,
    classes: Sequence[Scalar] | None,
    libraries: dict[str, str],
    personal: Set[str] = frozenset(),
) -> bytes:
    """The artifact, which names no usual value of `personal` features.

    Raises ModelBroken where the estimator's class, or a parameter of it, has no converter.
    """
    estimator = pipeline.steps[-1][1]
    register_boosting(type(estimator).__module__.partition(".")[0])
    _round_thresholds(estimator)
    has_probabilities = hasattr(pipeline, "predict_proba")
    inputs = []
    if columns.number_names:
        inputs.append((NUMBERS, FloatTensorType([None, len(columns.number_names)])))
    if columns.text_names:
        inputs.append((TEXTS, StringTensorType([None, len(columns.text_names)])))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a later numpy will not take
            options = {id(pipeline): {"zipmap": False}} if has_probabilities else None
            model = convert_sklearn(pipeline, "model", inputs, options=options, target_opset=dict(OPSETS))
    except MemoryError:
        raise
    except Exception as e:  # a converter raises what it likes for what it does not know
        raise ModelBroken(f"{type(estimator).__name__} with these parameters has no equal in ONNX: {e!s:.300}") from e
    outputs = [VALUE] if task == "regression" else [LABEL, PROBABILITIES] if has_probabilities else [LABEL]
    _tidy(model, outputs)
    write_interface(model, _build_interface(columns, task, classes or (), outputs, opset_of(model)))
    model.metadata_props.add(key=LIBRARIES_KEY, value=json.dumps(libraries))
    usual = {name: value for name, value in columns.usual.items() if name not in personal}
    model.metadata_props.add(key=USUAL_KEY, value=write_usual(usual))
    return bytes(model.SerializeToString(deterministic=True))


@cache
def register_boosting(library: str) -> None:
    """Tell skl2onnx of the converters for a library's classes."""
    if library == "lightgbm":
        from lightgbm import LGBMClassifier, LGBMRegressor
        from onnxmltools.convert.lightgbm.operator_converters.LightGbm import (  # type: ignore[import-untyped]
            convert_lightgbm as convert,
        )

        classifier, regressor, options = LGBMClassifier, LGBMRegressor, {"split": None}
    elif library == "xgboost":
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import (  # type: ignore[import-untyped]
            convert_xgboost as convert,
        )
        from xgboost import XGBClassifier, XGBRegressor

        classifier, regressor, options = XGBClassifier, XGBRegressor, None
    else:
        return
    for cls, shapes, takes in (
        (classifier, calculate_linear_classifier_output_shapes, CLASSIFIER_OPTIONS),
        (regressor, calculate_linear_regressor_output_shapes, options),
    ):
        update_registered_converter(cls, f"Everloop{cls.__name__}", shapes, convert, options=takes)


def _round_thresholds(estimator: Any) -> None:
    """Round the thresholds of histogram trees down to single precision, in which ONNX holds them.

    Inputs are in single precision too, so that no input changes its side.
    """
    for predictors in getattr(estimator, "_predictors", ()):
        for predictor in predictors:
            exact = predictor.nodes["num_threshold"]
            rounded = exact.astype(np.float32)
            above = rounded.astype(np.float64) > exact
            rounded[above] = np.nextafter(rounded[above], np.float32(-np.inf))
            predictor.nodes["num_threshold"] = rounded.astype(np.float64)


def _tidy(model: onnx.ModelProto, names: list[str]) -> None:
    """Name the first outputs, leave out the others, and name each set of operators once."""
    outputs = list(model.graph.output)
    del model.graph.output[len(names) :]
    for output, name in zip(outputs, names, strict=False):
        _rename(model.graph, output.name, name)
    versions = {each.domain: each.version for each in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in sorted(versions.items()))


def _build_interface(
    columns: Columns, task: Task, classes: Sequence[Scalar], outputs: Sequence[str], opset: int
) -> Interface:
    inputs = (
        ModelInput(name=NUMBERS, type="float", features=columns.number_names),
        ModelInput(name=TEXTS, type="string", features=columns.text_names),
    )
    return Interface(
        task=task,
        inputs=tuple(each for each in inputs if each.features),
        label=LABEL if LABEL in outputs else None,
        probabilities=PROBABILITIES if PROBABILITIES in outputs else None,
        value=VALUE if VALUE in outputs else None,
        classes=tuple(classes),
        labels=tuple(range(len(classes))),
        opset=opset,
    )


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    if old == new:
        return
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name in (old, new):
                    names[i] = new if name == old else f"{new}_inside"
    for output in graph.output:
        if output.name == old:
            output.name = new
