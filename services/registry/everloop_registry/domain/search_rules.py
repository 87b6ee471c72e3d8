"""Rules for the search of a spec that is applied: whether its metric, its models and its bounds fit the loop."""

from __future__ import annotations

from collections.abc import Iterator

from everloop_registry.domain.value_rules import TWICE, text_error
from everloop_schemas.loop import METRICS, LoopSpec
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.quantities import parse_duration_s
from everloop_schemas.search_spec import SearchSpec
from everloop_shared.errors import FieldError

MIN_BUDGET_S, MAX_BUDGET_S = 1.0, 86_400.0
LARGEST_NUMBER = 2**63 - 1
TRAINED_ELSEWHERE = "is trained elsewhere, where its parameters are not tried; search another model"


def check_search(spec: LoopSpec) -> Iterator[FieldError]:
    """Each error in the search, by dotted path, with the fix."""
    search = spec.search
    if search is None:
        return
    if search.metric is not None and search.metric not in METRICS[spec.task]:
        fix = f"is not for {spec.task}; use one of {', '.join(METRICS[spec.task])}, or leave it out"
        yield FieldError("search.metric", fix)
    if not MIN_BUDGET_S <= parse_duration_s(search.budget) <= MAX_BUDGET_S:
        yield FieldError("search.budget", "must be from 1 s to 1 day, such as 10m")
    if search.features and spec.models[0].kind == "trainer":
        yield FieldError("search.features", f"are tried with the first model, which {TRAINED_ELSEWHERE}")
    yield from _check_space(spec, search)


def _check_space(spec: LoopSpec, search: SearchSpec) -> Iterator[FieldError]:
    for path, tried in search.space.items():
        where, (index, name) = f"search.space.{path}", path.removeprefix("models.").split(".")
        if int(index) >= len(spec.models):
            count = len(spec.models)
            has = "the loop has one model, models.0" if count == 1 else f"the loop has {count} models, 0 to {count - 1}"
            yield FieldError(where, f"names no model: {has}")
        elif spec.models[int(index)].kind == "trainer":
            yield FieldError(where, TRAINED_ELSEWHERE)
        elif name in ModelSpec.model_fields:
            yield FieldError(where, "is no parameter of the estimator; name one that it is built with")
        elif tried.choice is not None:
            yield from _check_choice(where, tried.choice)
        elif any(abs(bound) > LARGEST_NUMBER for bound in tried.bounds or ()):
            yield FieldError(where, "has a bound of more than 64 bits; take a smaller one")


def _check_choice(where: str, values: tuple[object, ...]) -> Iterator[FieldError]:
    if error := text_error(values):
        yield FieldError(where, error)
    elif len({(type(value), value) for value in values}) < len(values):
        yield FieldError(where, TWICE)
