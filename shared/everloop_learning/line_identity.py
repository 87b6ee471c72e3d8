"""What makes the model of a spec the same one, so that its line goes on under a new revision; pure."""

from __future__ import annotations

import re

from everloop_schemas.loop_parts import ModelSpec

ADDED_MODEL_OFFSETS = 20_000
"""Offsets before the present at which the line of a model starts that was added to the spec later."""


def model_key(model: ModelSpec) -> str:
    """Equal for models with the same line: those that say the same, parameters included."""
    return model.model_dump_json()


def slug(model: ModelSpec) -> str:
    """A model's short name: its trainer, its preset or its class, in words with hyphens."""
    if model.trainer:
        return model.trainer
    if model.preset:
        return model.preset.replace("_", "-")
    name = (model.estimator or "").rpartition(".")[2]
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()
