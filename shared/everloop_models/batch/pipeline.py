"""From a spec's batch model to an estimator with the encoder that its columns need: fitted as one, converted as one."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer  # type: ignore[import-untyped]
from sklearn.impute import SimpleImputer  # type: ignore[import-untyped]
from sklearn.pipeline import Pipeline  # type: ignore[import-untyped]
from sklearn.preprocessing import OneHotEncoder, StandardScaler  # type: ignore[import-untyped]

from everloop_models.batch.rows import Columns, most_frequent
from everloop_models.errors import NOT_TOLD, ModelBroken, lacks_memory
from everloop_models.formats import RANDOM_SEED
from everloop_schemas.loop_parts import ModelSpec

MAX_CATEGORIES = 100
"""Of one text: the most frequent ones have a column each; the others, and missing ones, count as none of them."""
TREES = ("sklearn.ensemble.", "sklearn.tree.", "xgboost.", "lightgbm.")
"""Estimators that need no scale; all others get their numbers scaled by mean and deviation."""
TAKES_MISSING = ("sklearn.ensemble.HistGradientBoosting", "xgboost.", "lightgbm.")
"""Estimators that take missing numbers as they are, in ONNX too; for all others a column's median stands for them."""
FIXED: dict[str, dict[str, Any]] = {
    "sklearn": {},
    "xgboost": {"n_jobs": 1, "verbosity": 0, "tree_method": "hist", "device": "cpu"},
    "lightgbm": {"n_jobs": 1, "verbose": -1, "deterministic": True, "force_row_wise": True},
}
"""By library, what no spec may change: one thread, quiet, the same result each time."""


def estimator_class(path: str) -> Any:
    """The class of this path; raises ImportError or AttributeError where the installed library has none."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def build_estimator(model: ModelSpec) -> Any:
    """The estimator, deterministic (seed `RANDOM_SEED` unless it names one)."""
    path = model.estimator or ""
    cls = estimator_class(path)
    arguments = {**model.parameters, **FIXED[path.partition(".")[0]]}
    if "random_state" in cls().get_params():
        arguments.setdefault("random_state", RANDOM_SEED)
    return cls(**arguments)


def build_pipeline(model: ModelSpec, columns: Columns) -> Any:
    """Encoder and estimator, not fitted; it takes the array that `stacked` makes of columns."""
    path = model.estimator or ""
    encoder = _encoder(path, columns)
    steps = [("encoder", encoder)] if encoder is not None else []
    return Pipeline([*steps, ("estimator", build_estimator(model))])


def fit(model: ModelSpec, columns: Columns, labels: NDArray[Any], *, is_personal: bool = False) -> Any:
    """Encoder and estimator, trained on the rows; raises ModelBroken with the reason, and MemoryError.

    A reason says nothing of rows that are personal.
    """
    try:
        pipeline = build_pipeline(model, columns)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it has not converged, or of what will change in a later release
            pipeline.fit(columns.stacked, labels)
    except (ImportError, AttributeError) as e:
        raise ModelBroken(f"{model.estimator} cannot be made of the libraries installed here: {e!s:.300}") from e
    except MemoryError:
        raise
    except Exception as e:  # a library raises what it likes for data or parameters that it cannot be fitted with
        said = f"{e!s:.500}"
        if is_personal and not lacks_memory(said):
            said = f"{type(e).__name__}, {NOT_TOLD}"
        raise ModelBroken(f"{model.estimator} cannot be trained on these rows: {said}") from e
    return pipeline


def _encoder(path: str, columns: Columns) -> Any:
    numbers = _number_steps(path)
    if not columns.text_names:
        return Pipeline(numbers) if numbers else None
    n = len(columns.number_names)
    categories = [most_frequent(columns.texts[:, i], MAX_CATEGORIES) for i in range(len(columns.text_names))]
    one_hot = OneHotEncoder(categories=categories, handle_unknown="ignore", sparse_output=False, dtype="float32")
    parts = [("texts", one_hot, list(range(n, n + len(columns.text_names))))]
    if n:
        parts.insert(0, ("numbers", Pipeline(numbers) if numbers else "passthrough", list(range(n))))
    return ColumnTransformer(parts)


def _number_steps(path: str) -> list[tuple[str, Any]]:
    steps: list[tuple[str, Any]] = []
    if not path.startswith(TAKES_MISSING):
        steps.append(("imputer", SimpleImputer(strategy="median", keep_empty_features=True)))
    if not path.startswith(TREES):
        steps.append(("scaler", StandardScaler()))
    return steps
