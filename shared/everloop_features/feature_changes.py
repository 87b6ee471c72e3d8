"""What becomes of each feature, and of the values that its window keeps, when a loop gets another spec; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

from everloop_features.plan import compile_features
from everloop_features.steps import Window
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import FeatureSpec, FieldSpec

FeatureState = Literal["kept", "fills_up", "starts_empty", "new", "changed", "ends"]


class FeatureChange(BaseModel):
    """A feature before and after, in short words, None where it is not there, and what becomes of it.

    `kept`: the values that it needs are stored for every entity that was seen under the spec before. `fills_up`: some
    of them are. `starts_empty`: none is. Features without a window need none: they are `new`, `changed` or `kept`.
    """

    model_config = ConfigDict(frozen=True)

    feature: str
    before: str | None
    after: str | None
    state: FeatureState
    detail: str = ""


def compare_features(before: LoopSpec, after: LoopSpec) -> list[FeatureChange]:
    """Each feature of either spec, in the order of the new one, those that end last. Both specs are sound."""
    return list(_Comparison(before, after).changes())


def new_features(spec: LoopSpec) -> list[FeatureChange]:
    """Each feature of a loop that does not exist yet."""
    windows = {name for name, step in compile_features(spec).steps if step is None or isinstance(step, Window)}
    return [
        FeatureChange(feature=name, before=None, after=said, state="starts_empty" if name in windows else "new")
        for name, said in _described(spec).items()
    ]


class _Comparison:
    def __init__(self, before: LoopSpec, after: LoopSpec) -> None:
        self._old, self._new = compile_features(before), compile_features(after)
        self._old_said, self._new_said = _described(before), _described(after)
        self._old_fields, self._new_fields = before.fields, after.fields
        self._steps = dict(self._new.steps)

    def changes(self) -> Iterator[FeatureChange]:
        for name, said in self._new_said.items():
            state, detail = self._state_of(name)
            yield FeatureChange(feature=name, before=self._old_said.get(name), after=said, state=state, detail=detail)
        for name, said in self._old_said.items():
            if name not in self._new_said:
                yield FeatureChange(feature=name, before=said, after=None, state="ends")

    def _state_of(self, name: str) -> tuple[FeatureState, str]:
        if name in self._steps and self._steps[name] is None:
            return self._label_state()
        step = self._steps.get(name)
        if isinstance(step, Window):
            return self._window_state(step)
        if name not in self._old_said:
            return "new", ""
        if self._old_said[name] != self._new_said[name]:
            return "changed", "from each entity's next observation on"
        return "kept", ""

    def _label_state(self) -> tuple[FeatureState, str]:
        return ("kept", "") if self._old.uses_label else ("starts_empty", "until an entity's next label")

    def _window_state(self, window: Window) -> tuple[FeatureState, str]:
        if window.events is not None:
            had, needed = self._old.rings.get(window.field, 0), window.keep
            state, detail = _fill(had, needed, f"{had:,} of {needed:,} events are kept")
        elif window.length_ms is not None:
            span = self._old.spans.get(window.field, 0.0)
            state, detail = _fill(span, window.length_ms, f"{_days(span)} of {_days(window.length_ms)} are kept")
            if state != "starts_empty" and self._new.span_points < self._old.span_points:
                detail = f"{detail}{'; ' if detail else ''}of each entity the last {self._new.span_points:,} values"
        else:
            state, detail = ("kept", "") if window.field in self._old.latest else ("starts_empty", "")
        if state != "starts_empty" and (changed := _type_change(window.field, self._old_fields, self._new_fields)):
            detail = f"{detail}{'; ' if detail else ''}{changed}"
        return state, detail


def _fill(had: float, needed: float, part: str) -> tuple[FeatureState, str]:
    if had >= needed:
        return "kept", ""
    return ("fills_up", part) if had else ("starts_empty", "")


def _type_change(field: str, old: Mapping[str, FieldSpec], new: Mapping[str, FieldSpec]) -> str:
    """Values that were stored as another type stay in the window until they have passed through it."""
    if field not in old or old[field].type == new[field].type:
        return ""
    return f"with values of type {old[field].type} until they have passed"


def _days(length_ms: float) -> str:
    for unit, ms in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
        if length_ms >= ms:
            return f"{length_ms / ms:g} {unit}"
    return f"{length_ms:g} ms"


def _described(spec: LoopSpec) -> dict[str, str]:
    """What each feature is, in the order of the spec."""
    found: dict[str, str] = {}
    for feature in spec.features:
        if feature.fields is None:
            found[feature.name or ""] = _in_words(feature)
        else:
            names = spec.fields if feature.fields == "all" else feature.fields
            found |= dict.fromkeys(names, "field")
    return found


def _in_words(feature: FeatureSpec) -> str:
    if feature.expr is not None:
        return feature.expr
    over = f" over {feature.over}" if feature.over else ""
    return f"{feature.function} of {feature.field}{over}"
