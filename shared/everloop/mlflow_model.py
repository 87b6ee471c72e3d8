"""Loads a model version of the registry as an MLflow model: what `mlflow.pyfunc.load_model` calls.

`predict` takes feature vectors, as the member `features` of a prediction shows them, and answers a data frame with the
column `prediction` and, for classes, a column `probability_<class>` for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from everloop.errors import EverloopError
from everloop_models import ArtifactCorrupt, FormatUnavailable, Model, ModelPrediction
from everloop_models.artifact import verify
from everloop_models.formats import check, load
from everloop_schemas.envelope import Fields, Scalar
from everloop_shared.yaml_core import read_yaml

MLMODEL = "MLmodel"
DESCRIPTION = "everloop"
"""The member of the metadata in an MLmodel file that describes a version of Everloop."""
LARGEST_MLMODEL_BYTES = 1_000_000


class ModelNotLoaded(EverloopError):
    """The files of a model version are not those that the registry describes, or a library is missing here."""


class VersionDescription(NamedTuple):
    """What an MLmodel file says of a version: its digest, its format, and the types of its features in their order."""

    loop: str
    version: str
    sha256: str
    size: int
    format: str
    features: Mapping[str, str]


class EverloopModel:
    """A version of a loop that predicts as serving does. One thread at a time."""

    def __init__(self, model: Model, description: VersionDescription) -> None:
        self.model, self.description = model, description

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> Any:
        """A data frame of predictions for a data frame or a list of feature vectors, or for one of them."""
        rows = _records(model_input)
        predictions = [self.model.predict(_to_features(row, self.description.features)) for row in rows]
        return import_module("pandas").DataFrame(_to_columns(predictions), index=getattr(model_input, "index", None))


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> EverloopModel:
    """The model in the file at `path`, beside which lies its MLmodel file; raises ModelNotLoaded.

    Nothing of it is unpickled or run before its digest is the one of the MLmodel file, and its format's check passes.
    """
    artifact = Path(path)
    description = read_description(artifact.parent / MLMODEL)
    data = artifact.read_bytes()
    try:
        verify(description, data)
        check(data, description.format)
        return EverloopModel(load(data, description.format), description)
    except FormatUnavailable as e:
        raise ModelNotLoaded(f"{_name(description)}: {e.detail}; pip install 'everloop[local]'") from e
    except ArtifactCorrupt as e:
        raise ModelNotLoaded(f"{_name(description)}: {e.detail}") from e


def read_description(path: Path) -> VersionDescription:
    """What an MLmodel file of the registry says of its version; raises ModelNotLoaded."""
    if path.stat().st_size > LARGEST_MLMODEL_BYTES:
        raise ModelNotLoaded(f"{path} is larger than any MLmodel file of the registry")
    try:
        found = read_yaml(path.read_text())["metadata"][DESCRIPTION]
        return VersionDescription(**{name: found[name] for name in VersionDescription._fields})
    except (ValueError, TypeError, KeyError) as e:
        raise ModelNotLoaded(f"{path} does not describe a version of Everloop: {e!r}") from e


def _name(description: VersionDescription) -> str:
    return f"{description.version} of {description.loop}"


def _records(model_input: Any) -> list[Mapping[str, Any]]:
    if hasattr(model_input, "to_dict") and hasattr(model_input, "columns"):
        records: list[Mapping[str, Any]] = model_input.to_dict("records")
        return records
    if isinstance(model_input, Mapping):  # one vector
        return [model_input]
    return list(model_input)


def _to_features(row: Mapping[str, Any], types: Mapping[str, str]) -> Fields:
    """The vector in the order that serving has, which sums of floating-point numbers depend on."""
    return {name: _to_scalar(row.get(name), kind) for name, kind in types.items()}


def _to_scalar(value: Any, kind: str) -> Scalar | None:
    """A value as serving has it: a missing one, which a data frame holds as NaN, is None."""
    if value is None or type(value).__name__ == "NAType" or value != value:  # comparing NA has no truth
        return None
    value = value.item() if hasattr(value, "item") else value
    if kind == "boolean" and isinstance(value, int | float):
        return bool(value)
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)  # a data frame holds whole numbers as floats where one of them is missing
    scalar: Scalar = value
    return scalar


def _to_columns(predictions: Sequence[ModelPrediction]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {"prediction": [p.value for p in predictions]}
    for name in _classes(predictions):
        columns[f"probability_{name}"] = [(p.probabilities or {}).get(name) for p in predictions]
    return columns


def _classes(predictions: Iterable[ModelPrediction]) -> list[str]:
    return list(dict.fromkeys(name for p in predictions for name in p.probabilities or {}))
