"""What somebody logged as a model of MLflow's: whether it may challenge, and how it is fed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from everloop_registry.errors import LoggedModelRefused
from everloop_shared.yaml_core import read_yaml

LARGEST_MLMODEL_BYTES = 1_000_000
WAY_IN = (
    "convert it to ONNX (scikit-learn by skl2onnx, XGBoost and LightGBM by onnxmltools, PyTorch by torch.onnx.export, "
    "TensorFlow by tf2onnx), and log it by mlflow.onnx.log_model(model, signature=..., registered_model_name=...)"
)
_MODEL_URI = re.compile(r"models:/(m-[0-9a-zA-Z-]{1,250})")
_RUN_URI = re.compile(r"runs:/([0-9a-zA-Z][\w-]{0,250})/(.+)")
_TRAINER = re.compile(r"[^a-z0-9_-]+")


class LoggedModelSource(NamedTuple):
    """A model that was logged under an id."""

    model: str


class RunSource(NamedTuple):
    """A model below the artifacts of a run."""

    run: str
    path: str


class OnnxSource(NamedTuple):
    """The ONNX file beside an MLmodel file, and the features in the order of its columns, where these are named."""

    file: str
    features: tuple[str, ...] | None


def read_source(source: str) -> LoggedModelSource | RunSource | None:
    """Where a version is to be made from; None for a URI that names files themselves."""
    if (found := _MODEL_URI.fullmatch(source)) is not None:
        return LoggedModelSource(found[1])
    if (found := _RUN_URI.fullmatch(source)) is not None:
        return RunSource(found[1], found[2])
    if source.startswith("models:/"):
        raise LoggedModelRefused(
            f"{source[:200]!r} is a version of a registered model already; register what was logged: models:/m-..."
        )
    return None


def read_mlmodel(data: bytes) -> OnnxSource:
    """What an MLmodel file says; raises LoggedModelRefused for a flavour that is not ONNX."""
    try:
        found = read_yaml(data.decode())
        flavors: dict[str, Any] = dict(found["flavors"])
        names = sorted(flavors)
    except (ValueError, TypeError, KeyError) as e:
        raise LoggedModelRefused(f"its MLmodel file cannot be read: {e!r}"[:500]) from e
    onnx = flavors.get("onnx")
    if not isinstance(onnx, Mapping):
        flavours = ", ".join(name for name in names if name != "python_function") or "a Python model"
        raise LoggedModelRefused(
            f"the model has the flavour {flavours[:200]}: its file would be unpickled, and so run as code, where it "
            f"serves. {WAY_IN[0].upper()}{WAY_IN[1:]}"
        )
    if onnx.get("code"):
        raise LoggedModelRefused("the model brings Python code of its own, which is not run; log it without code_paths")
    return OnnxSource(_file_name(onnx.get("data")), _features(found.get("signature")))


def trainer_name(name: str) -> str:
    """The name under which a logged model challenges: that which it was logged under, as far as a line may have it."""
    slug = _TRAINER.sub("-", name.lower()).strip("-_")
    return slug[:40].rstrip("-_") if slug[:1].isalpha() else f"model-{slug}"[:40].rstrip("-_")


def _file_name(data: Any) -> str:
    parts = data.split("/") if isinstance(data, str) else []
    if not parts or any(part in ("", ".", "..") for part in parts):
        raise LoggedModelRefused(f"its MLmodel file names {data!r:.200} as the ONNX file, which is no path below it")
    return "/".join(parts)


def _features(signature: Any) -> tuple[str, ...] | None:
    """The names of the columns; None without a signature, or with one of tensors, whose names are the model's own."""
    if not isinstance(signature, Mapping) or not isinstance(signature.get("inputs"), str):
        return None
    try:
        columns: Sequence[Mapping[str, Any]] = json.loads(signature["inputs"])
        if any(column["type"] == "tensor" for column in columns):
            return None
        return tuple(str(column["name"]) for column in columns)
    except (ValueError, TypeError, KeyError) as e:
        raise LoggedModelRefused(
            f"its signature does not name its inputs: {e!r}; give signature= when it is logged"
        ) from e
