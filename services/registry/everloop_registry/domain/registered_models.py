"""Loops and their versions as MLflow's clients know them: registered models, and model versions with numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as default

from everloop_registry.domain.filters import Condition, Field, Searchable, parse_filter
from everloop_registry.domain.tracking import version_artifacts
from everloop_schemas.training import ModelTrainedData

MODELS = Searchable(
    frozenset(("attribute", "tag")),
    texts={"name": "name"},
    numbers={
        "creation_timestamp": "created",
        "last_updated_timestamp": "updated",
        "timestamp": "updated",
    },
)
VERSIONS = Searchable(
    frozenset(("attribute", "tag")),
    texts={"name": "name", "run_id": "run", "source_path": "source", "source": "source", "status": "status"},
    numbers={
        "version_number": "number",
        "version": "number",
        "creation_timestamp": "created",
        "last_updated_timestamp": "updated",
    },
)
"""What clients may search by."""


NO_PROMPT = Condition(Field("tag", "mlflow.prompt.is_prompt"), "!=", "true")
"""MLflow's client leaves prompts out by this condition, which holds for what has no such tag as well."""


def parse_model_filter(text: str | None, over: Searchable) -> list[Condition]:
    """As `parse_filter`, for registered models and their versions, of which none is a prompt."""
    return [condition for condition in parse_filter(text, over) if condition != NO_PROMPT]


@dataclass(frozen=True)
class ModelVersion:
    """A registered version by its number; `past` where the loop was deleted since, `kept` while its artifact is."""

    loop: str
    number: int
    model: ModelTrainedData
    created_ms: int
    updated_ms: int
    past: bool
    kept: bool
    description: str = ""
    tags: Mapping[str, str] = default(default_factory=dict)
    aliases: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """Where its artifacts are."""
        return version_artifacts(self.loop, self.model.version)


@dataclass(frozen=True)
class RegisteredModel:
    """A loop as a registered model, with its latest version, and the numbers of those that have an alias."""

    name: str
    created_ms: int
    updated_ms: int
    latest: ModelVersion | None
    aliases: Mapping[str, int]
    description: str = ""
    tags: Mapping[str, str] = default(default_factory=dict)
