"""How much the predictions of a model depend on each feature, as a mean of explanations."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from math import isfinite

from everloop_models.explain.attribution import AttributingModel
from everloop_models.explain.explanation import explain
from everloop_models.model import Model, OnlineModel
from everloop_schemas.envelope import Fields

IMPORTANCE_ROWS = 32
"""Observations of which explanations are averaged."""
PERMUTED_ROWS = 8
"""Where these need permutations, which take far longer than an attribution."""
IMPORTANCE_SECONDS = 0.2
"""After this time no further observation is explained."""
CALLS = 64
"""Predictions that the explanation of one observation may take."""


def importance_of(
    model: Model,
    rows: Sequence[Fields],
    *,
    seconds: float = IMPORTANCE_SECONDS,
    timer: Callable[[], float] = time.perf_counter,
) -> dict[str, float] | None:
    """By feature, the mean absolute contribution to the model's score on these observations, as shares of 1.

    None where there are no observations, or no feature contributes anything. Equal arguments give equal shares as long
    as the explanations end within `seconds`. The model is as it was before, also one whose predictions draw numbers by
    chance. Never raises.
    """
    start, found = timer(), dict[str, float]()
    try:
        kept = IMPORTANCE_ROWS if _is_attributed(model) else PERMUTED_ROWS
        model = _explainable(model)
        for number, row in enumerate(rows[-kept:]):
            if timer() - start > seconds:
                break
            explanation = explain(
                model, row, model.predict(row), str(number), seconds=seconds, calls=CALLS, timer=timer
            )
            for name, share in explanation.contributions.items() if explanation else ():
                found[name] = found.get(name, 0.0) + abs(share)
    except Exception:  # a model may raise anything, and its version is made all the same
        return None
    total = sum(found.values())
    return {name: share / total for name, share in found.items()} if 0 < total and isfinite(total) else None


def _is_attributed(model: Model) -> bool:
    return isinstance(model, AttributingModel) and model.has_attribution


def _explainable(model: Model) -> Model:
    """The model, or a copy of one that learns and has no attribution: its predictions may move a generator."""
    return deepcopy(model) if isinstance(model, OnlineModel) and not _is_attributed(model) else model
