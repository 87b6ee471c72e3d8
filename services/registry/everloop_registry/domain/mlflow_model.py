"""The files that make a version a model of MLflow's: MLmodel with flavours and signature, and its requirements."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import yaml

from everloop_features import compile_features
from everloop_metrics import class_name
from everloop_schemas.envelope import ControlTimestamp
from everloop_schemas.loop import LoopSpec
from everloop_schemas.training import ModelTrainedData

MLMODEL = "MLmodel"
LOADER_MODULE = "everloop.mlflow_model"
"""What `mlflow.pyfunc.load_model` imports: a module of the light package."""
MLFLOW_VERSION = "3.17.2"
"""The version whose form of MLmodel is written."""
ARTIFACT_NAMES = {"onnx": "model.onnx"}
OTHER_ARTIFACT = "model.pkl"
TYPES = {"boolean": "boolean", "integer": "long", "number": "double", "string": "string"}
"""The types of MLflow's column signatures."""
MLFLOW_RUN, MLFLOW_MODEL = "mlflow_run", "mlflow_model"
"""Parameters of a submitted model: the run in which it was logged, and its id. Each version of its line has them."""
LIBRARIES = ("everloop", "river", "onnxruntime", "onnx")


class NumberedVersion(NamedTuple):
    """A registered version with its number, the spec by which it was made, and when it was registered."""

    number: int
    model: ModelTrainedData
    spec: LoopSpec
    time: ControlTimestamp
    run: str
    """The run that the version is attributed to: the one in which somebody logged it, or else the training's."""


def artifact_name(model: ModelTrainedData) -> str:
    """The name of the artifact's file beside MLmodel."""
    return ARTIFACT_NAMES.get(model.manifest.format, OTHER_ARTIFACT)


def describe_version(version: NumberedVersion) -> dict[str, bytes]:
    """The files beside the artifact; the same for the same version."""
    python = version.model.manifest.libraries.get("python", "3.11")
    requirements = _requirements(version.model)
    pip = [*(f"  - {r}" for r in requirements)]
    return {
        MLMODEL: yaml.safe_dump(_mlmodel(version, python), sort_keys=False, allow_unicode=True).encode(),
        "conda.yaml": "\n".join(["dependencies:", f"- python={python}", "- pip", "- pip:", *pip, ""]).encode(),
        "python_env.yaml": f"python: {python}\ndependencies:\n- -r requirements.txt\n".encode(),
        "requirements.txt": ("\n".join(requirements) + "\n").encode(),
    }


def _mlmodel(version: NumberedVersion, python: str) -> dict[str, Any]:
    model = version.model
    data = artifact_name(model)
    env = {"conda": "conda.yaml", "virtualenv": "python_env.yaml"}
    loader = {"loader_module": LOADER_MODULE, "data": data, "env": env, "python_version": python}
    flavors: dict[str, Any] = {"python_function": loader}
    if model.manifest.format == "onnx":
        onnx = {"data": data, "code": None, "onnx_session_options": None, "providers": ["CPUExecutionProvider"]}
        flavors["onnx"] = {"onnx_version": model.manifest.libraries.get("onnx", ""), **onnx}
    features = feature_types(version.spec)
    if model.manifest.format != "river":  # an online model has been shown every feature, others take those they name
        features = {name: kind for name, kind in features.items() if name in model.signature}
    described = {"loop": version.spec.loop, "version": model.version, "sha256": model.sha256, "size": model.size}
    return {
        "artifact_path": f"models:/{version.spec.loop}/{version.number}",
        "flavors": flavors,
        "mlflow_version": MLFLOW_VERSION,
        "model_size_bytes": model.size,
        "run_id": version.run,
        "utc_time_created": version.time.strftime("%Y-%m-%d %H:%M:%S.%f"),
        "signature": {
            "inputs": json.dumps([_input(name, kind, version.spec) for name, kind in features.items()]),
            "outputs": json.dumps(_outputs(version.spec)),
            "params": None,
        },
        "metadata": {"everloop": {**described, "format": model.manifest.format, "features": features}},
    }


def feature_types(spec: LoopSpec) -> dict[str, str]:
    """The type of every feature of a loop, in the order in which serving has them."""
    plan = compile_features(spec)
    fields = {name: field.type for name, field in spec.fields.items()}
    return {name: "string" if name in plan.texts else fields.get(name, "number") for name in plan.names}


def _input(name: str, kind: str, spec: LoopSpec) -> dict[str, Any]:
    """A column of the signature. MLflow casts a column to its type or refuses it, so numbers have the type `any`.

    A data frame holds whole numbers as `int64` and those with a gap as `float64`, and it would refuse the one for
    `double` and the other for `long`.
    """
    is_certain = name in spec.fields and spec.fields[name].missing == "refuse"
    if kind == "string" or (kind == "boolean" and is_certain):
        return {"type": TYPES[kind], "name": name, "required": is_certain}
    return {"type": "any", "name": name, "required": is_certain}


def _outputs(spec: LoopSpec) -> list[dict[str, Any]]:
    columns = [{"type": TYPES[spec.label_type], "name": "prediction", "required": True}]
    classes = spec.label.classes or ((False, True) if spec.label_type == "boolean" else ())
    if spec.task != "regression":
        names = [f"probability_{class_name(label)}" for label in classes]
        columns += [{"type": "double", "name": name, "required": True} for name in names]
    return columns


def _requirements(model: ModelTrainedData) -> list[str]:
    libraries = model.manifest.libraries
    return [f"{name}=={libraries[name]}" for name in LIBRARIES if name in libraries]


def run_of(model: ModelTrainedData) -> str:
    """The run that a version is attributed to: the one in which somebody logged its model, or else the training's."""
    logged = model.manifest.model.parameters.get(MLFLOW_RUN)
    return logged if isinstance(logged, str) else model.run
