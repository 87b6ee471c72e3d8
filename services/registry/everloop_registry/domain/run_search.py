"""A run with all that was logged about it, and what runs and experiments may be searched by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from everloop_registry.domain.filters import Searchable
from everloop_registry.domain.tracking import Run
from everloop_schemas.tracking import DataSetInput, Metric, ModelLink

ViewType = Literal["ACTIVE_ONLY", "DELETED_ONLY", "ALL"]
STAGES: Mapping[ViewType, Sequence[str]] = {
    "ACTIVE_ONLY": ("active",),
    "DELETED_ONLY": ("deleted",),
    "ALL": ("active", "deleted"),
}
"""Which are shown, by the view that a client asks for."""
RUNS = Searchable(
    frozenset(("metric", "parameter", "tag", "attribute", "dataset")),
    texts={
        "run_id": "id",
        "run_name": "name",
        "run name": "name",
        "status": "status",
        "user_id": "user",
        "experiment_id": "experiment",
    },
    numbers={"start_time": "started_ms", "end_time": "ended_ms", "created": "started_ms"},
)
EXPERIMENTS = Searchable(
    frozenset(("attribute", "tag")),
    texts={"name": "name", "experiment_id": "id"},
    numbers={"creation_time": "created_ms", "last_update_time": "updated_ms"},
)


@dataclass(frozen=True)
class LoggedRun:
    """A run with the latest value of each metric, its parameters, tags, data sets and models."""

    run: Run
    location: str
    metrics: Sequence[Metric]
    parameters: Mapping[str, str]
    tags: Mapping[str, str]
    inputs: Sequence[DataSetInput]
    models: Sequence[ModelLink]
