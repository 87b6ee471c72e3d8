"""Tries a spec in a child process: whether features and models can be built, and what an event costs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

from everloop_features import compile_features
from everloop_features.samples import sample_vectors
from everloop_models import ModelSpecInvalid
from everloop_models.batch.allowed import AllowedEstimators
from everloop_models.batch.estimators import check_trained
from everloop_models.first_load import PRELOADED_MODULES
from everloop_models.search.checks import search_errors
from everloop_models.trial import check_models
from everloop_registry.domain.feature_rules import compile_within_budget
from everloop_schemas.envelope import Fields
from everloop_schemas.loop import LoopSpec
from everloop_shared.errors import FieldError
from everloop_shared.limited import ChildFailed, Limited, LimitExceeded

log = logging.getLogger(__name__)
MEMORY_BYTES = 500_000_000
CPU_SECONDS = 1.0
"""Ends a spec that computes without end."""
SECONDS = 10.0
"""Ends a spec that waits, also on a machine that is busy otherwise."""
MAX_WAITING_SPECS = 32
SAMPLE_OBSERVATIONS = 20


class ChildProcessSpecChecks:
    """Builds the features and every online model of a spec once, in a child with limits on memory and time.

    `allow` is the setting of the estimators that batch lines may name.
    """

    def __init__(self, allow: str = "") -> None:
        self._allow = allow
        self._child = Limited(
            preload=PRELOADED_MODULES,
            memory_bytes=MEMORY_BYTES,
            seconds=SECONDS,
            cpu_seconds=CPU_SECONDS,
            waiting=MAX_WAITING_SPECS,
        )

    async def __aenter__(self) -> ChildProcessSpecChecks:
        await self._child.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._child.__aexit__(*exc)

    async def check(self, spec: LoopSpec) -> list[FieldError]:
        """Everything that is wrong; raises Overloaded where too many specs wait already."""
        wire = await asyncio.to_thread(spec.model_dump_json, exclude_none=True, by_alias=True)
        try:
            errors = await self._child.run(find_errors, wire, self._allow)
            if spec.search is not None and not errors:
                errors = await self._child.run(find_search_errors, wire, self._allow)
            return [FieldError(*pair) for pair in errors]
        except LimitExceeded as e:
            fix = "fewer features, fewer models, or simpler ones, also with the largest values of a search"
            reason = f"cannot be built and tried: {e.detail}; {fix}"
            return [FieldError("models", reason)]
        except ChildFailed as e:
            log.warning("a spec could not be tried", extra={"loop": spec.loop, "reason": str(e)})
            return [FieldError("models", "cannot be built and tried; the registry's log says why")]


def find_errors(wire: str, allow: str = "") -> list[tuple[str, str]]:
    """The errors that the feature and model packages find in a spec in JSON, as pairs of field and error."""
    spec = LoopSpec.model_validate_json(wire)
    plan, wrong = compile_within_budget(spec)
    vectors: list[Fields] = [] if plan is None else sample_vectors(spec, plan, SAMPLE_OBSERVATIONS)
    try:
        check_models(spec, vectors)
    except ModelSpecInvalid as e:
        wrong += e.errors
    wrong += _trained_model_errors(spec, AllowedEstimators.of(allow))
    return [(e.field, e.error) for e in map(FieldError.shortened, wrong)]


def find_search_errors(wire: str, allow: str = "") -> list[tuple[str, str]]:
    """What is wrong with the values that the search of a sound spec in JSON tries, as pairs of field and error."""
    spec = LoopSpec.model_validate_json(wire)
    vectors = sample_vectors(spec, compile_features(spec), SAMPLE_OBSERVATIONS)
    found = [FieldError(*pair).shortened() for pair in search_errors(spec, AllowedEstimators.of(allow), vectors)]
    return [(e.field, e.error) for e in found]


def _trained_model_errors(spec: LoopSpec, allowed: AllowedEstimators) -> Iterator[FieldError]:
    for i, model in enumerate(spec.models):
        try:
            if model.kind != "online":
                check_trained(model, spec, allowed, f"models.{i}")
        except ModelSpecInvalid as e:
            yield from e.errors
