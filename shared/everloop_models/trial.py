"""Builds and tries the models of a spec, so that what cannot work, or takes too long, is refused when it is applied."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import cycle, islice

from everloop_models.errors import ArtifactCorrupt, FormatUnavailable, ModelBroken, ModelSpecInvalid
from everloop_models.formats import OnlineFormat, build, check, format_of, online_format, save
from everloop_models.model import OnlineModel
from everloop_schemas.envelope import Fields, Scalar
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import ModelSpec

EVENT_BUDGET_S = 0.02
"""CPU that one model may take to predict one event and learn from it."""
MAX_TRIES, MIN_TRIES = 20, 3
"""Events that each model is tried on."""
CPU_FOR_ALL_MODELS_S, CPU_FOR_ONE_MODEL_S = 0.4, 0.2
"""A model is tried on fewer events where these are used up."""


def check_models(spec: LoopSpec, vectors: Sequence[Fields] = ()) -> None:
    """Build and try every online model on the features in `vectors` (made up where none); CPU for a second at most.

    Raises ModelSpecInvalid for the first that has a parameter out of bounds, cannot learn, or takes too long. A
    single call of a library may take any time: call this in a process that can be killed.
    """
    online = [i for i, model in enumerate(spec.models) if model.kind == "online"]
    for i in online:
        _format_of(spec.models[i], f"models.{i}").check_parameters(spec.models[i], spec, f"models.{i}")
    for i in online:
        _try(spec, i, vectors or _sample_vectors(spec))


def _format_of(model: ModelSpec, field: str) -> OnlineFormat:
    try:
        return online_format(format_of(model))
    except FormatUnavailable as e:
        raise ModelSpecInvalid(field, e.detail) from e


def _try(spec: LoopSpec, number: int, vectors: Sequence[Fields]) -> None:
    field, labels = f"models.{number}", _sample_labels(spec)
    spent = 0.0
    try:
        model = build(spec.models[number], spec, field)
        outcomes = islice(zip(cycle(vectors), cycle(labels), strict=False), MAX_TRIES)
        for tries, (features, label) in enumerate(outcomes, 1):
            started = time.process_time()
            model.predict(features)
            model.learn(features, label)
            spent += time.process_time() - started
            if tries == MIN_TRIES:  # later a large model would take long to save
                _check_storable(model, field)
            is_over_its_part = spent > CPU_FOR_ALL_MODELS_S / len(spec.models) and tries >= MIN_TRIES
            if spent > CPU_FOR_ONE_MODEL_S or is_over_its_part:
                break
        model.predict(features)
    except ModelBroken as e:
        raise ModelSpecInvalid(field, f"cannot learn with these parameters: {e.detail}") from e
    seen = min(tries, len(labels))
    per_class = online_format(model.format).is_learned_per_class(model)
    each = spent / tries * (len(labels) / seen if per_class else 1)
    if each > EVENT_BUDGET_S:
        limit = f"at most {EVENT_BUDGET_S * 1000:g} ms: fewer members or features"
        raise ModelSpecInvalid(field, f"takes {each * 1000:,.0f} ms per event; {limit}")


def _check_storable(model: OnlineModel, field: str) -> None:
    """Raise ModelSpecInvalid for a model that cannot be an artifact: it could never be served."""
    try:
        check(save(model).data, model.format)
    except ArtifactCorrupt as e:
        raise ModelSpecInvalid(field, f"cannot be stored: {e.detail}") from e


def _sample_vectors(spec: LoopSpec) -> list[Fields]:
    return [{name: "a" if of.type == "string" else 0.1 + i for name, of in spec.fields.items()} for i in range(4)]


def _sample_labels(spec: LoopSpec) -> Sequence[Scalar]:
    if spec.task == "regression":
        return 0.0, 1.0
    if spec.label.classes and len(spec.label.classes) > 1:
        return spec.label.classes
    pairs: dict[str, tuple[Scalar, Scalar]] = {"boolean": (False, True), "integer": (0, 1)}
    return pairs.get(spec.label_type, ("a", "b"))
