"""The outputs of an explanation in the Open Inference Protocol, which only a request that asks for one gets; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from typing import Any

from everloop_schemas.serving import PredictionMadeData
from everloop_serving.domain.tensors import OutputTensor, rejected

PARAMETER = "explain"
"""The parameter of a request that asks for it."""
EXPLAINED = ("contributions", "base", "scale", "method")
"""Outputs: FP64 [rows, features] with the names of the features in its parameter `features`; FP64, BYTES and BYTES."""


def is_asked_for(parameters: Mapping[str, Any]) -> bool:
    """Whether a request asks for explanations; raises ObservationRejected for what is neither true nor false."""
    asked = parameters.get(PARAMETER)
    if asked is not None and not isinstance(asked, bool):
        raise rejected(f"parameters.{PARAMETER}", "must be true or false, or left out")
    return bool(asked)


def render_explained(name: str, made: Sequence[PredictionMadeData]) -> OutputTensor:
    """One of these outputs; of a row whose explanation would have taken too long NaN, or the empty text."""
    found, count = [data.explanation for data in made], len(made)
    if name == "base":
        return OutputTensor(name, "FP64", (count,), [nan if each is None else each.base for each in found])
    if name != "contributions":
        texts = ["" if each is None else getattr(each, name) or "" for each in found]
        return OutputTensor(name, "BYTES", (count,), texts)
    features = list(dict.fromkeys(feature for each in found if each for feature in each.contributions))
    values: list[float] = []
    for each in found:
        values += [nan if each is None else each.contributions.get(feature, 0.0) for feature in features]
    return OutputTensor(name, "FP64", (count, len(features)), values, {"features": features})
