"""Builds and tries the models of a spec, so that what cannot work, or takes too long, is found at the door."""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from itertools import cycle, islice

from river import multiclass

from everloop_models.errors import ArtifactCorrupt, ModelBroken, ModelSpecInvalid
from everloop_models.estimators import build, parameter_name, river_class
from everloop_models.model import Model
from everloop_models.parameters import check_parameter
from everloop_models.pickling import check, save
from everloop_schemas.envelope import Fields, Scalar
from everloop_schemas.loop import LoopSpec

EVENT_BUDGET_S = 0.02
"""So much CPU may one model take to predict one event and learn from it."""
TRIES, TRIES_AT_LEAST = 20, 3
ALL_TRIES_S, ONE_TRY_S = 0.4, 0.2


def check_models(spec: LoopSpec, vectors: Sequence[Fields] = ()) -> None:
    """Build and try every model on the features in `vectors` (made up where there are none); CPU for a second at most.

    Raises ModelSpecInvalid for the first that takes parameters beyond all sense, cannot learn, or takes too long. What
    a single call of river may take has no limit here: do this where it can be ended.
    """
    for i, model in enumerate(spec.models):
        field = f"models.{i}"
        cls = river_class(model, spec, field)
        known = inspect.signature(cls).parameters
        for name, value in model.parameters.items():
            if (parameter := known.get(parameter_name(cls, name))) is not None:
                check_parameter(parameter, value, f"{field}.{name}")
    for i in range(len(spec.models)):
        _try(spec, i, vectors or _made_up(spec))


def _try(spec: LoopSpec, number: int, vectors: Sequence[Fields]) -> None:
    field, labels = f"models.{number}", _labels(spec)
    spent = 0.0
    try:
        model = build(spec.models[number], spec, field)
        for tries, (features, label) in enumerate(islice(zip(cycle(vectors), cycle(labels), strict=False), TRIES), 1):
            started = time.process_time()
            model.predict(features)
            model.learn(features, label)
            spent += time.process_time() - started
            if tries == TRIES_AT_LEAST:  # of more, a large model would take long to save
                _keep(model, field)
            if spent > ONE_TRY_S or (spent > ALL_TRIES_S / len(spec.models) and tries >= TRIES_AT_LEAST):
                break
        model.predict(features)
    except ModelBroken as e:
        raise ModelSpecInvalid(field, f"cannot learn with these parameters: {e.detail}") from e
    seen = min(tries, len(labels))
    each = spent / tries * (len(labels) / seen if isinstance(model.estimator, multiclass.OneVsRestClassifier) else 1)
    if each > EVENT_BUDGET_S:
        said = f"takes {each * 1000:,.0f} ms per event; at most {EVENT_BUDGET_S * 1000:g} ms: fewer members or features"
        raise ModelSpecInvalid(field, said)


def _keep(model: Model, field: str) -> None:
    """What cannot be an artifact can never be served."""
    try:
        check(save(model).data)
    except ArtifactCorrupt as e:
        raise ModelSpecInvalid(field, f"cannot be kept: {e.detail}") from e


def _made_up(spec: LoopSpec) -> list[Fields]:
    return [{name: "a" if of.type == "string" else 0.1 + i for name, of in spec.fields.items()} for i in range(4)]


def _labels(spec: LoopSpec) -> Sequence[Scalar]:
    if spec.task == "regression":
        return 0.0, 1.0
    if spec.label.classes and len(spec.label.classes) > 1:
        return spec.label.classes
    pairs: dict[str, tuple[Scalar, Scalar]] = {"boolean": (False, True), "integer": (0, 1)}
    return pairs.get(spec.label_type, ("a", "b"))
