"""Checks that a model can be built with the values that its search will try; a trial that fails would come too late."""

from __future__ import annotations

from collections.abc import Iterator

from everloop_models.batch.allowed import AllowedEstimators
from everloop_models.batch.estimators import check_trained
from everloop_models.errors import ModelSpecInvalid
from everloop_models.formats import build, format_of, online_format
from everloop_models.search.task import with_parameters
from everloop_models.trial import check_models
from everloop_schemas.envelope import Fields, Scalar
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.search_spec import ParameterRange


def search_errors(spec: LoopSpec, allowed: AllowedEstimators, vectors: list[Fields]) -> Iterator[tuple[str, str]]:
    """What is wrong with the values that are tried, as pairs of field and error; at most one for each parameter.

    Models that learn each outcome are also tried with the largest values, as `check_models` does, on `vectors`.
    """
    assert spec.search is not None, "there is a search to check"
    largest, wrong = list(spec.models), set[str]()
    for index, model in enumerate(spec.models):
        ranges, field = spec.search.of_model(index), f"models.{index}"
        for name, tried in ranges.items():
            for value in _ends(tried):
                try:
                    _check(with_parameters(model, {name: value}), spec, allowed, field)
                except ModelSpecInvalid as e:
                    if (where := f"{field}.{name}") not in wrong:
                        wrong.add(where)
                        said = e.errors[0]
                        prefix = "" if said.field.endswith(name) else f"{said.field} "
                        yield f"search.space.{where}", f"{prefix}{said.error} ({value!r:.40} is tried)"
        largest[index] = with_parameters(model, {name: _ends(tried)[-1] for name, tried in ranges.items()})
    if not wrong:
        yield from _errors_of_largest(spec, tuple(largest), vectors)


def _errors_of_largest(
    spec: LoopSpec, models: tuple[ModelSpec, ...], vectors: list[Fields]
) -> Iterator[tuple[str, str]]:
    try:
        check_models(spec.model_copy(update={"models": models}), vectors)
    except ModelSpecInvalid as e:
        for said in e.errors:
            yield "search.space", f"with the largest values, {said.field} {said.error}"


def _check(model: ModelSpec, spec: LoopSpec, allowed: AllowedEstimators, field: str) -> None:
    if model.kind != "online":
        check_trained(model, spec, allowed, field)
        return
    online_format(format_of(model)).check_parameters(model, spec, field)
    build(model, spec, field)


def _ends(tried: ParameterRange) -> tuple[Scalar, ...]:
    """The values at the ends of a range, or all choices; the largest number is last."""
    if tried.choice is None:
        return tried.bounds or ()
    return tuple(sorted(tried.choice, key=lambda v: (not isinstance(v, str), v if not isinstance(v, str) else 0)))
