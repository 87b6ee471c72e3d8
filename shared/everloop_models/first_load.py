"""The first load of an artifact, in a child process with limits, so that hostile bytes harm nothing else."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import cycle, islice
from math import isclose
from statistics import median
from typing import Any

from everloop_models.artifact import Artifact, verify
from everloop_models.errors import ModelBroken
from everloop_models.formats import DEFAULT_FORMAT, FORMATS, check, load
from everloop_models.model import ManyRowsModel, Model, ModelPrediction, OnlineModel
from everloop_models.trial import EVENT_BUDGET_S
from everloop_schemas.envelope import Fields

PRELOADED_MODULES = (*FORMATS.values(), "everloop_models.trial", "everloop_models.first_load")
LOAD_MEMORY_BYTES = 1_500_000_000
LOAD_TIMEOUT_S = 60.0
TIMED = 11
"""Predictions of which the median counts."""
ROUNDING = 1e-5


def try_artifact(
    data: bytes, sha256: str, features: Fields, format_name: str = DEFAULT_FORMAT, loads: bool = True
) -> list[str]:
    """Verify and check an artifact and, with `loads`, load it and predict. A model that was trained elsewhere is timed.

    Returns the features that it is fed, none where it is not loaded. Raises ArtifactCorrupt, or ModelBroken where a
    prediction fails, is not finite, or takes too long.
    """
    verify(Artifact(b"", sha256, len(data)), data)
    check(data, format_name)
    if not loads:
        return []
    model = load(data, format_name)
    try:
        try_model(model, [features])
    except ModelBroken as e:
        raise ModelBroken(e.detail[:500]) from e
    return [*model.signature]


def load_and_predict(data: bytes, sha256: str, features: Fields, format_name: str) -> dict[str, Any]:
    """Verify, check and load an artifact, and predict once: `prediction` and `probabilities`, as a record has them.

    Raises ArtifactCorrupt, or ModelBroken where the prediction fails or is not finite.
    """
    verify(Artifact(b"", sha256, len(data)), data)
    check(data, format_name)
    value, probabilities = load(data, format_name).predict(features)
    return {"prediction": value, "probabilities": probabilities}


def try_model(model: Model, samples: Sequence[Fields]) -> None:
    """Predict with each sample; time a model that does not learn here, and compare rows together and one by one.

    Raises ModelBroken, naming the fix where there is one.
    """
    alone = [model.predict(sample) for sample in samples]
    if isinstance(model, OnlineModel):
        return  # it was tried when its spec was applied
    check_latency(model, samples)
    if isinstance(model, ManyRowsModel):
        _check_rows(model, samples, alone)


def check_latency(model: Model, samples: Sequence[Fields]) -> None:
    """Raise ModelBroken for a model that takes longer for a prediction than any event may."""
    took: list[float] = []
    for sample in islice(cycle(samples), TIMED):
        started = time.process_time()
        model.predict(sample)
        took.append(time.process_time() - started)
        if sum(took) > TIMED * EVENT_BUDGET_S:
            break
    if (typical := median(took)) > EVENT_BUDGET_S:
        limit = f"at most {EVENT_BUDGET_S * 1000:g} ms: take a smaller model"
        raise ModelBroken(f"it takes {typical * 1000:,.0f} ms per event; {limit}")


def _check_rows(model: ManyRowsModel, samples: Sequence[Fields], alone: Sequence[ModelPrediction]) -> None:
    """A prediction must not depend on the rows that are predicted in the same call."""
    rows, expected = [*samples], [*alone]
    moved = {
        name: value + 1 if isinstance(value, int | float) and not isinstance(value, bool) else value
        for name, value in samples[0].items()
    }
    with suppress(ModelBroken):  # it need not be a possible observation
        expected.append(model.predict(moved))
        rows.append(moved)
    if not all(map(_is_close, model.predict_many(rows), expected)):
        fix = "let none of its operators go over the first dimension (Softmax with axis=1)"
        raise ModelBroken(f"it predicts otherwise when it is given several rows at once: {fix}")


def _is_close(a: ModelPrediction, b: ModelPrediction) -> bool:
    if a.probabilities is None or b.probabilities is None:
        return a.value == b.value or (
            isinstance(a.value, float) and isinstance(b.value, float) and isclose(a.value, b.value, rel_tol=ROUNDING)
        )
    return all(isclose(p, b.probabilities[name], abs_tol=ROUNDING) for name, p in a.probabilities.items())
