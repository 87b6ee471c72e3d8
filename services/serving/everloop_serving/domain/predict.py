"""One prediction by everything that is live: one version is served, the other speaks in shadow."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from everloop_features import FeaturePlan
from everloop_models import Prediction
from everloop_schemas.envelope import Fields
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import BASELINE
from everloop_schemas.serving import Role, Shadow
from everloop_serving.domain.split import role_of, split


class Predictor(Protocol):
    """A version in memory. `predict` is fast and blocks; it may raise, and it may say nonsense."""

    @property
    def version(self) -> str: ...
    def predict(self, features: Fields) -> Prediction: ...


@dataclass(frozen=True)
class Live:
    """All that answers for a loop right now; replaced as a whole, by one assignment.

    `share` is 0 unless the candidate is here. `loading` says that the champion meant to serve has never been
    loaded in this process: the stream waits, a request does not.
    """

    loop: str
    revision: int
    spec: LoopSpec
    plan: FeaturePlan
    baseline: Predictor
    champion: Predictor
    candidate: Predictor | None = None
    share: float = 0.0
    loading: bool = False
    life: int = 1


@dataclass(frozen=True)
class Said:
    """A prediction with its circumstances; `fell` names each version that failed at it, with the reason."""

    answer: Prediction
    version: str
    role: Role
    propensity: float
    latency_ms: float
    shadows: tuple[Shadow, ...]
    fell: tuple[tuple[str, str], ...]


class _Nonsense(ValueError):
    """A model answered with something that is not finite."""


def predict(live: Live, prediction_id: str, entity: str, features: Fields, timer: Callable[[], float]) -> Said:
    """Ask the version that the split chose, and the other one in shadow; one that fails gives way to the next.

    The order is canary, champion, version 0, and what version 0 says before any label. `timer` counts seconds.
    """
    unit = entity if live.spec.rollout.split_by == "entity" else prediction_id
    arm = split(live.loop, unit, live.share if live.candidate else 0.0)
    fell: list[tuple[str, str]] = []
    for predictor, canary in _order(live, arm.canary):
        start = timer()
        try:
            answer = _sound(predictor.predict(features))
        except Exception as e:  # whatever a model raises must not cost the answer
            fell.append((predictor.version, _reason(e)))
            continue
        latency_ms = (timer() - start) * 1000
        role = role_of(predictor.version, canary=canary)
        propensity = 1.0 if fell else arm.propensity
        shadows = _shadows(live, predictor, features, fell)
        return Said(answer, predictor.version, role, propensity, latency_ms, shadows, tuple(fell))
    return Said(Prediction(live.spec.initial_prediction, None), BASELINE, "baseline", 1.0, 0.0, (), tuple(fell))


def _order(live: Live, canary: bool) -> Iterator[tuple[Predictor, bool]]:
    if canary and live.candidate:
        yield live.candidate, True
    yield live.champion, False
    if live.champion is not live.baseline:
        yield live.baseline, False


def _shadows(live: Live, served: Predictor, features: Fields, fell: list[tuple[str, str]]) -> tuple[Shadow, ...]:
    """What the other live version says; one that has just failed is not asked again."""
    failed = {version for version, _ in fell}
    shadows = []
    for predictor in (live.champion, live.candidate):
        if predictor is None or live.candidate is None or predictor is served or predictor.version in failed:
            continue
        try:
            answer = _sound(predictor.predict(features))
        except Exception as e:
            fell.append((predictor.version, f"in shadow: {_reason(e)}"))
        else:
            shadows.append(
                Shadow(version=predictor.version, prediction=answer.value, probabilities=answer.probabilities)
            )
    return tuple(shadows)


def _sound(answer: Prediction) -> Prediction:
    values = [answer.value] if isinstance(answer.value, float) else []
    if not all(map(math.isfinite, [*values, *(answer.probabilities or {}).values()])):
        raise _Nonsense(f"not finite: {answer.value!r}, {answer.probabilities!r}"[:500])
    return answer


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]
