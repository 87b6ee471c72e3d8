"""Which models are another one with other parameters."""

from __future__ import annotations

from everloop_schemas.loop_parts import ModelSpec


def is_tuned(model: ModelSpec, of: ModelSpec) -> bool:
    """Whether a model is another one with other parameters: of the same preset or estimator, and not the same."""
    return model != of and (model.preset, model.estimator, model.trainer) == (of.preset, of.estimator, of.trainer)
