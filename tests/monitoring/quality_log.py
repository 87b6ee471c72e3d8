"""A log of outcomes with shadows, slices and late labels, and the watch of quality that has seen it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any

from msgspec.structs import replace
from tests.builders.events import outcome_data, outcome_observed
from tests.builders.loops import NOW, loop_spec

from everloop_monitoring.domain.evaluation import BatchEvaluation
from everloop_monitoring.domain.quality.view import build_quality
from everloop_monitoring.domain.quality.watch import QualityWatch
from everloop_monitoring.domain.state import EvaluationState
from everloop_monitoring.domain.watch import WatchedOutcome
from everloop_schemas.envelope import Scalar
from everloop_schemas.feature import OutcomeObservedData
from everloop_schemas.loop import LoopSpec
from everloop_schemas.serving import Shadow

CLASSES = ("a", "b", "c")
FIELDS = {"plan": {"type": "string"}, "size": {"type": "number"}, "vip": {"type": "boolean"}}


def watched_spec(task: str = "binary", **parts: Any) -> LoopSpec:
    """A loop whose quality is measured by plan, size and vip."""
    monitor = {"slices": ["plan", "size", "vip"]}
    label = {"label": {"classes": CLASSES}} if task == "multiclass" else {}
    return loop_spec(**{"task": task, "schema": FIELDS, "monitor": monitor, **label, **parts})


def quality_log(task: str, n: int, seed: int = 1) -> list[OutcomeObservedData]:
    """Outcomes that a champion and a canary served, each with a shadow, whose labels take up to an hour."""
    rng, log = Random(seed), []
    for i in range(n):
        features = {"plan": rng.choice("xyz"), "size": rng.expovariate(0.1), "vip": rng.random() < 0.2}
        said, label = _said(task, rng)
        shadow, _ = _said(task, rng)
        canary = rng.random() < 0.2
        data = outcome_data(
            f"{seed}-{i}",
            label,
            features=features,
            prediction=said[0],
            probabilities=said[1],
            version=f"b-1@{i // 100}" if canary else f"a-1@{i // 100}",
            role="canary" if canary else "champion",
            shadows=(Shadow(version="c-1@7", prediction=shadow[0], probabilities=shadow[1]),),
            predicted=NOW,
            labelled=NOW + timedelta(seconds=rng.uniform(1, 3600)),
        )
        log.append(data)
    return log


def _said(task: str, rng: Random) -> tuple[tuple[Scalar, dict[str, float] | None], Scalar]:
    """A prediction with its probabilities, and a label that is drawn from them."""
    if task == "regression":
        number = rng.gauss(50, 10)
        return (number + rng.gauss(0, 5), None), number
    names = ("true", "false") if task == "binary" else CLASSES
    weights = [rng.random() ** 2 + 0.01 for _ in names]
    chances = {name: w / sum(weights) for name, w in zip(names, weights, strict=True)}
    value, label = max(chances, key=chances.__getitem__), rng.choices(names, weights)[0]
    return ((value == "true", chances), label == "true") if task == "binary" else ((value, chances), label)


def other_label(task: str, label: Scalar, rng: Random) -> Scalar:
    """A label that somebody gives by mistake."""
    if task == "regression":
        return rng.choice((1e9, -1e9, 0.0))
    return (not label) if task == "binary" else rng.choice([name for name in CLASSES if name != label])


@dataclass
class SeenLog:
    """The evaluation of a loop and its watch, given outcomes as monitoring gives them."""

    spec: LoopSpec
    watch: QualityWatch = field(default_factory=QualityWatch)
    evaluation: BatchEvaluation = field(init=False)
    offset: int = 0

    def __post_init__(self) -> None:
        self.evaluation = BatchEvaluation(self.spec, EvaluationState())
        self.watch = self.watch.follow(self.spec)

    def add(self, *outcomes: OutcomeObservedData) -> SeenLog:
        """Add outcomes at the next offsets."""
        for data in outcomes:
            before = self.evaluation.counted.get(data.prediction_id)
            self.evaluation.add(data, self.offset)
            now = self.evaluation.counted[data.prediction_id]
            if before is None or before.label != now.label:
                event = replace(outcome_observed(data.prediction_id), data=data)
                self.watch.add_outcome(WatchedOutcome(event, self.offset, before, now), NOW)
            self.offset += 1
        return self

    def quality(self, predictions: int = 0) -> dict[str, Any]:
        """What the endpoint answers."""
        state = self.evaluation.state
        return build_quality("loop", self.spec, self.watch, predictions or state.outcomes, state.scored)

    def group(self, by: str, name: str, slice: str | None = None) -> dict[str, Any]:
        """One group of the answer."""
        groups = self.quality()["groups"]
        [found] = [g for g in groups if (g["by"], g["name"], g.get("slice")) == (by, name, slice)]
        return dict(found)
