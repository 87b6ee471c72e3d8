"""What starts over elsewhere when a loop gets another spec: evidence, references, schedules."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

from everloop_learning.line_identity import model_key
from everloop_learning.watched_features import watched_features
from everloop_registry.domain.loop import Loop
from everloop_schemas.loop import LoopSpec


class SpecEffect(BaseModel):
    """What a change of a field of the spec does beside the features and lines."""

    model_config = ConfigDict(frozen=True)

    field: str
    effect: str


def find_effects(loop: Loop, after: LoopSpec) -> Iterator[SpecEffect]:
    """Each effect, by the field that has it."""
    before = loop.spec
    if before.metric != after.metric:
        yield SpecEffect(field="metric", effect="the gate's tests of all challengers start over, by the new metric")
    if before.gate.require != after.gate.require:
        yield SpecEffect(field="gate.require", effect="what it requires is measured from the next outcome on")
    if loop.held_back:
        yield SpecEffect(field="gate.require", effect=f"{', '.join(loop.held_back)} may pass the gate again")
    if before.retrain.on_schedule != after.retrain.on_schedule:
        yield SpecEffect(field="retrain.on_schedule", effect="the next run is by the new schedule")
    yield from _monitoring_effects(before, after)
    yield from _search_effects(before, after)
    if added := sorted(after.personal_fields - before.personal_fields):
        yield SpecEffect(
            field="schema", effect=f"{', '.join(added)}: sealed in records from now on, not in earlier ones"
        )
    if loop.approval is not None and before.rollout != after.rollout:
        yield SpecEffect(
            field="rollout", effect=f"{loop.approval.version} still waits for what it was asked for before"
        )


def _monitoring_effects(before: LoopSpec, after: LoopSpec) -> Iterator[SpecEffect]:
    old, new = before.monitor, after.monitor
    watched, watches = watched_features(before), watched_features(after)
    if watched and watches and (watched != watches or old.slices != new.slices):
        yield SpecEffect(field="monitor.drift", effect="drift of inputs is compared with a new reference")
    if gone := [name for name in old.slices if name not in new.slices]:
        yield SpecEffect(field="monitor.slices", effect=f"the counts of {', '.join(gone)} are dropped")
    for name in ("prediction", "learned", "recovered"):
        was, becomes = getattr(old.objectives, name), getattr(new.objectives, name)
        if was and becomes and was.within != becomes.within:
            yield SpecEffect(field=f"monitor.objectives.{name}", effect="its cases are counted from nothing")


def _search_effects(before: LoopSpec, after: LoopSpec) -> Iterator[SpecEffect]:
    if before.search is None:
        return
    kept = {model_key(model) for model in after.models}
    if after.search is None:
        yield SpecEffect(field="search", effect="lines with parameters that a search found end")
    elif any(model_key(model) not in kept for model in before.models):
        yield SpecEffect(field="models", effect="lines with parameters that a search found for these models may end")
