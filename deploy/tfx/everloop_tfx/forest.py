"""A forest for the Trainer of TFX: learned from its examples, and written as ONNX with an input for each feature."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from tfx.components.trainer.fn_args_utils import FnArgs

from everloop_tfx.components import DESCRIBED
from everloop_tfx.examples import read_examples
from everloop_tfx.schema import LABEL

OPSET = 17


def run_fn(fn_args: FnArgs) -> None:
    """What TFX's Trainer calls. `custom_config` has `types` by feature, that of the label as `label`, and `trees`."""
    types, trees = dict(fn_args.custom_config["types"]), int(fn_args.custom_config["trees"])
    features = {name: kind for name, kind in types.items() if name != LABEL}
    learned = pd.DataFrame(read_examples(fn_args.train_files, types))
    held_back = pd.DataFrame(read_examples(fn_args.eval_files, types))
    forest = _forest(features, trees).fit(_numbers(learned, features), learned[LABEL])
    x, classes = _numbers(held_back, features), forest.classes_
    metrics = {
        "accuracy": float(accuracy_score(held_back[LABEL], forest.predict(x))),
        "log_loss": float(log_loss(held_back[LABEL], forest.predict_proba(x), labels=classes)),
    }
    folder = Path(fn_args.serving_model_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(_as_onnx(forest, features))
    (folder / DESCRIBED).write_text(json.dumps({"classes": classes.tolist(), "metrics": metrics}))


def _forest(features: dict[str, str], trees: int) -> Any:
    texts = [name for name, kind in features.items() if kind == "string"]
    others = [name for name in features if name not in texts]
    columns = ColumnTransformer(
        [("texts", OneHotEncoder(handle_unknown="ignore"), texts), ("numbers", SimpleImputer(), others)]
    )
    return make_pipeline(columns, RandomForestClassifier(trees, min_samples_leaf=5, random_state=0))


def _numbers(rows: pd.DataFrame, features: dict[str, str]) -> pd.DataFrame:
    """The features with numbers as float32, as the ONNX file gets them, and missing texts as empty ones."""
    kinds = {name: object if kind == "string" else np.float32 for name, kind in features.items()}
    texts = {name: "" for name, kind in features.items() if kind == "string"}
    return rows[list(features)].fillna(value=texts).astype(kinds)


def _as_onnx(forest: Any, features: dict[str, str]) -> bytes:
    types = {name: StringTensorType if kind == "string" else FloatTensorType for name, kind in features.items()}
    inputs = [(name, kind([None, 1])) for name, kind in types.items()]
    made = to_onnx(forest, initial_types=inputs, options={id(forest): {"zipmap": False}}, target_opset=OPSET)
    return bytes(made.SerializeToString())
