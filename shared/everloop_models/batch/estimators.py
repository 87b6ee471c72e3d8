"""Checks that a spec's batch model may be trained here: allowed, of the loop's task, with parameters that it takes."""

from __future__ import annotations

from everloop_models.batch.allowed import AllowedEstimators
from everloop_models.batch.catalogue import Entry, catalogue, paths_for
from everloop_models.batch.parameters import parameter_error
from everloop_models.errors import ModelSpecInvalid
from everloop_schemas.envelope import Scalar
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import ModelSpec

MAX_TEXT_CHARACTERS = 256
MIN_WINDOW, MAX_WINDOW = 100, 1_000_000
MIN_EVERY = 50
"""Bounds of `window` and `every`: outcomes that a model is trained on, and between two trainings."""


def check_trained(model: ModelSpec, spec: LoopSpec, allowed: AllowedEstimators, field: str = "models.0") -> None:
    """Raise ModelSpecInvalid, naming field and fix, unless a model of kind `batch` or `trainer` can be trained."""
    for name, value, least in (("window", model.window, MIN_WINDOW), ("every", model.every, MIN_EVERY)):
        if value is not None and not least <= value <= MAX_WINDOW:
            raise ModelSpecInvalid(f"{field}.{name}", f"must be from {least:,} to {MAX_WINDOW:,} outcomes")
    if model.kind == "batch":
        _check_estimator(model, spec, allowed, field)
    else:
        _check_texts(model.parameters, field)


def _check_estimator(model: ModelSpec, spec: LoopSpec, allowed: AllowedEstimators, field: str) -> None:
    path, where = model.estimator or "", f"{field}.estimator"
    if refusal := allowed.refusal(path):
        raise ModelSpecInvalid(where, refusal)
    entry = catalogue().get(path)
    if entry is None:
        reason = f"{path} is not known, or has no equal in ONNX, by which models are served"
        raise ModelSpecInvalid(where, f"{reason}; use {_named(spec, path)}")
    if spec.task not in entry.tasks:
        what = "regression" if entry.tasks == ("regression",) else " and ".join(entry.tasks)
        raise ModelSpecInvalid(
            where, f"{path} is for {what}, and the loop's task is {spec.task}; use {_named(spec, path)}"
        )
    check_parameters(model, entry, field)


def check_parameters(model: ModelSpec, entry: Entry, field: str) -> None:
    """Raise ModelSpecInvalid for a parameter that the estimator of this entry does not take, or not with its value."""
    for name, value in model.parameters.items():
        kinds = entry.parameters.get(name)
        if kinds is None:
            takes = ", ".join(entry.parameters) or "none"
            raise ModelSpecInvalid(
                f"{field}.{name}", f"is no parameter that a spec may give to {model.estimator}; it takes {takes}"
            )
        if error := parameter_error(kinds, value):
            raise ModelSpecInvalid(f"{field}.{name}", error)


def _named(spec: LoopSpec, like: str) -> str:
    return f"one such as {', '.join(paths_for(spec.task, like))}"


def _check_texts(parameters: dict[str, Scalar | None], field: str) -> None:
    for name, value in parameters.items():
        if len(name) > MAX_TEXT_CHARACTERS or (isinstance(value, str) and len(value) > MAX_TEXT_CHARACTERS):
            shown = f"{field}.{name:.40}"
            raise ModelSpecInvalid(shown, f"name and value must have at most {MAX_TEXT_CHARACTERS} characters each")
