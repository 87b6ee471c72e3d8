"""What logged models may be searched by, in MLflow's language for filters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from everloop_registry.domain.filters import Condition, Searchable, Value, parse_filter

LOGGED_MODELS = Searchable(
    kinds=frozenset({"metric", "parameter", "tag", "attribute"}),
    texts={
        "name": "name",
        "model_id": "id",
        "model_type": "kind",
        "status": "status",
        "source_run_id": "run",
        "experiment_id": "experiment",
    },
    numbers={
        "creation_timestamp": "created_ms",
        "creation_time": "created_ms",
        "last_updated_timestamp": "updated_ms",
        "last_updated_time": "updated_ms",
    },
)
STATUSES: Mapping[str, str] = {
    "PENDING": "LOGGED_MODEL_PENDING",
    "READY": "LOGGED_MODEL_READY",
    "FAILED": "LOGGED_MODEL_UPLOAD_FAILED",
}
"""What clients call a status in filters."""


def parse_logged_model_filter(text: str) -> list[Condition]:
    """As `parse_filter`, with statuses as they are stored."""
    return [_stored(condition) for condition in parse_filter(text, LOGGED_MODELS)]


def _stored(condition: Condition) -> Condition:
    is_status = condition.field.kind == "attribute" and condition.field.key == "status"
    return replace(condition, value=_stored_status(condition.value)) if is_status else condition


def _stored_status(value: Value) -> Value:
    if isinstance(value, tuple):
        return tuple(STATUSES.get(one, one) for one in value)
    return STATUSES.get(value, value) if isinstance(value, str) else value
