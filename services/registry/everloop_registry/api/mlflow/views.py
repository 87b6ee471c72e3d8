"""What MLflow's clients read, as their protocol writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from everloop_registry.domain.mlflow_model import run_of
from everloop_registry.domain.registered_models import ModelVersion, RegisteredModel
from everloop_registry.domain.tracking import Experiment

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
