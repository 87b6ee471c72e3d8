"""Experiments, runs and logged models by their ids and addresses, as MLflow's clients know them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from everloop_schemas.envelope import utc_time
from everloop_schemas.names import is_loop_name
from everloop_schemas.tracking import Metric
from everloop_schemas.training import ModelTrainedData

DEFAULT_EXPERIMENT, DEFAULT_NAME = "0", "Default"
"""The experiment of runs that name none; it always exists."""
TAG_PREFIX = "everloop."
"""Tags that begin like this are Everloop's own."""
PROXY = "mlflow-artifacts:"
"""The scheme of artifacts that clients read and write through the registry."""


def experiment_id(name: str, taken: int = 0) -> str:
    """The id of the experiment that is created under a name, or of the next one where so many are `taken`.

    It is digits, as clients expect, and the same for a loop whenever its experiment is made again.
    """
    text = name if not taken else f"{name}/{taken}"
    return str(int.from_bytes(sha256(text.encode()).digest()[:7]) + 1)


def tracking_key(name: str, experiment: str) -> str:
    """The key of an experiment's events: its name where a loop may have it, else its id."""
    return name if is_loop_name(name) else experiment


def experiment_location(experiment: str) -> str:
    """Where an experiment's artifacts are, unless it was created with another place."""
    return f"{PROXY}/experiments/{experiment}"


def run_artifacts(location: str, run: str) -> str:
    """Where a run's artifacts are, in an experiment at `location`."""
    return f"{PROXY}/runs/{run}" if location.startswith(PROXY) else f"{location.rstrip('/')}/{run}/artifacts"


def model_artifacts(location: str, model: str) -> str:
    """Where a logged model's artifacts are, in an experiment at `location`."""
    if location.startswith(PROXY):
        return f"{PROXY}/logged-models/{model}"
    return f"{location.rstrip('/')}/models/{model}/artifacts"


def version_artifacts(loop: str, version: str) -> str:
    """Where the artifacts of a model version are."""
    return f"{PROXY}/versions/{loop}/{version}"


def version_tags(model: ModelTrainedData) -> dict[str, str]:
    """What a model version says about itself in tags, which people cannot change."""
    tags = {"version": model.version, "line": model.line, "offset": str(model.offset), "reason": model.reason}
    return {f"{TAG_PREFIX}{key}": value for key, value in {**tags, "format": model.manifest.format}.items()}


def to_millis(time: datetime) -> int:
    """Milliseconds since the epoch."""
    return (time - utc_time(0)) // timedelta(milliseconds=1)


@dataclass(frozen=True)
class Experiment:
    """An experiment; `key` is that of its events, times are milliseconds since the epoch."""

    id: str
    key: str
    name: str
    stage: str
    artifact_location: str
    created_ms: int
    updated_ms: int


@dataclass(frozen=True)
class Run:
    """A run of an experiment, without what was logged about it; `logged` counts the values of metrics."""

    id: str
    experiment: str
    name: str
    user: str
    status: str
    stage: str
    started_ms: int
    ended_ms: int | None
    logged: int


@dataclass(frozen=True)
class LoggedModel:
    """A model that somebody logged, without what was logged about it; `run` is the one that made it."""

    id: str
    experiment: str
    name: str
    run: str | None
    kind: str
    status: str
    message: str
    stage: str
    artifact_location: str
    created_ms: int
    updated_ms: int


@dataclass(frozen=True)
class LoggedModelDetails:
    """A logged model with what was logged about it."""

    model: LoggedModel
    parameters: dict[str, str]
    tags: dict[str, str]
    metrics: tuple[Metric, ...]


@dataclass(frozen=True)
class TrackingLimits:
    """How much may be logged: numbers of experiments, runs and logged models of each, and values of each run."""

    experiments: int = 1_000
    runs: int = 100_000
    models: int = 100_000
    metrics: int = 1_000_000
    parameters: int = 2_000
