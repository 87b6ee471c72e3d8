"""What MLflow's clients read, as their protocol writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from everloop_registry.domain.mlflow_model import run_of
from everloop_registry.domain.registered_models import ModelVersion, RegisteredModel
from everloop_registry.domain.run_search import LoggedRun
from everloop_registry.domain.tracking import Experiment, run_artifacts
from everloop_schemas.tracking import DataSetInput, Metric

View = dict[str, Any]


def experiment_view(experiment: Experiment, tags: Mapping[str, str]) -> View:
    """An experiment."""
    return {
        "experiment_id": experiment.id,
        "name": experiment.name,
        "artifact_location": experiment.artifact_location,
        "lifecycle_stage": experiment.stage,
        "creation_time": experiment.created_ms,
        "last_update_time": experiment.updated_ms,
        "tags": pairs(tags),
    }


def model_view(model: RegisteredModel) -> View:
    """A registered model."""
    return {
        "name": model.name,
        "creation_timestamp": model.created_ms,
        "last_updated_timestamp": model.updated_ms,
        "description": model.description,
        "latest_versions": [version_view(model.latest)] if model.latest else [],
        "tags": pairs(model.tags),
        "aliases": [{"alias": alias, "version": str(number)} for alias, number in model.aliases.items()],
    }


def version_view(version: ModelVersion) -> View:
    """A model version."""
    model = version.model
    return {
        "name": version.loop,
        "version": str(version.number),
        "creation_timestamp": version.created_ms,
        "last_updated_timestamp": version.updated_ms,
        "user_id": model.manifest.trainer or "everloop/training",
        "current_stage": "None",
        "description": version.description,
        "source": version.source,
        "run_id": run_of(model),
        "status": "READY",
        "status_message": "" if version.kept else "its artifact is not kept any more",
        "tags": pairs(version.tags),
        "aliases": list(version.aliases),
    }


def pairs(texts: Mapping[str, str]) -> list[View]:
    """Texts by key, as a list."""
    return [{"key": key, "value": value} for key, value in texts.items()]


def run_view(logged: LoggedRun) -> View:
    """A run with all that was logged."""
    run, links = logged.run, logged.models
    end = {} if run.ended_ms is None else {"end_time": run.ended_ms}
    return {
        "info": {
            "run_id": run.id,
            "run_uuid": run.id,
            "run_name": run.name,
            "experiment_id": run.experiment,
            "user_id": run.user,
            "status": run.status,
            "start_time": run.started_ms,
            **end,
            "artifact_uri": run_artifacts(logged.location, run.id),
            "lifecycle_stage": run.stage,
        },
        "data": {
            "metrics": [metric_view(metric) for metric in logged.metrics],
            "params": pairs(logged.parameters),
            "tags": pairs(logged.tags),
        },
        "inputs": {
            "dataset_inputs": [_input_view(one) for one in logged.inputs],
            "model_inputs": [{"model_id": link.model} for link in links if link.direction == "input"],
        },
        "outputs": {
            "model_outputs": [
                {"model_id": link.model, "step": link.step} for link in links if link.direction == "output"
            ],
        },
    }


def metric_view(metric: Metric) -> View:
    """A value of a metric."""
    view: View = {
        "key": metric.key,
        "value": "NaN" if metric.nan else metric.value,
        "timestamp": metric.time_ms,
        "step": metric.step,
    }
    more = {"model_id": metric.model, "dataset_name": metric.data_set, "dataset_digest": metric.digest}
    return view | {name: value for name, value in more.items() if value}


def _input_view(data_set: DataSetInput) -> View:
    whole = data_set.model_dump(exclude_none=True, exclude={"tags", "columns"})
    columns = {} if data_set.columns is None else {"schema": data_set.columns}
    return {"tags": pairs(data_set.tags), "dataset": {**whole, **columns}}
