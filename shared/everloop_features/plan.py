"""A loop's features, ready to compute: from an entity's state and an observation to the next state and the vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from math import isfinite
from typing import Any

from everloop_features.errors import ExpressionRejected, FeaturesRejected
from everloop_features.expression import Kind, compile_expression
from everloop_features.steps import CallableSteps, Step, Window
from everloop_features.windows import Points, Ring, Value, between, insert, prune, push
from everloop_schemas.envelope import Fields, Scalar
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import FeatureSpec
from everloop_shared.errors import ERRORS_LIMIT, FieldError, listed

State = dict[str, Any]
"""The state of one entity, compact and for JSON. Its parts, each present only where a feature needs it:

`ring` {field: values of the last events}, `span` {field: [times in ms, values]}, `last` {field: latest value},
`label` [the latest known label, the time of its observation in µs, its correction].
"""

MAX_POINTS = 10_000
"""Events, or points in time, that one window keeps of one field."""
ENTITY_POINTS = 20_000
"""Events and points that all windows of one entity keep together, so that a state stays below a megabyte."""
OF_NUMBERS = ("mean", "sum", "min", "max", "std", "diff")


@dataclass(frozen=True)
class FeaturePlan:
    """What to compute, in the order of the spec. Pure: no clock, no I/O, the same input gives the same output."""

    fields: tuple[str, ...]
    names: tuple[str, ...]
    steps: tuple[tuple[str, Step], ...]
    rings: Mapping[str, int]
    spans: Mapping[str, float]
    latest: tuple[str, ...]
    uses_label: bool
    span_points: int
    texts: frozenset[str] = frozenset()

    @cached_property
    def has_windows(self) -> bool:
        """Whether a feature depends on earlier observations or labels of its entity."""
        return bool(self.rings or self.spans or self.latest or self.uses_label)

    def find_misfit(self, features: Mapping[str, Scalar | None]) -> str | None:
        """Why a vector does not fit this plan; None where every value is missing or of its feature's type."""
        if not features.keys() <= self._name_set:
            return f"features.{min(features.keys() - self._name_set)[:80]}: is not among the loop's features"
        if not self.texts and str not in {*map(type, features.values())}:
            return None  # nearly every vector ends here: the loop below takes several times as long
        for name in self.names:
            value = features.get(name)
            if value is not None and (type(value) is str) != (name in self.texts):
                return f"features.{name}: must be {'text' if name in self.texts else 'a number'}"
        return None

    @cached_property
    def _name_set(self) -> frozenset[str]:
        return frozenset(self.names)

    def empty(self) -> State:
        """The state of an entity before its first observation."""
        return {}

    def apply(
        self, state: State, fields: Mapping[str, Scalar | None], time: datetime, received: datetime | None = None
    ) -> tuple[State, Fields]:
        """The state after an observation made at `time`, and its features, each a finite value or None.

        `received` is when it arrived, by default `time`: windows expire nothing by a later time than that, so that a
        wrong `time` cannot empty them. The given state is not changed. Parts of it that this plan does not know (it
        comes from another revision) are dropped, missing ones start empty.
        """
        get = fields.get
        values: Fields = {f: None if isinstance(v := get(f), float) and not isfinite(v) else v for f in self.fields}
        after: State = {}
        if self.rings:
            after["ring"] = self._apply_rings(state.get("ring", {}), values)
        if self.spans:
            spans = self._apply_spans(state.get("span", {}), values, _to_ms(time), _to_ms(received or time))
            if spans:
                after["span"] = spans
        if self.latest:
            after["last"] = self._apply_latest(state.get("last", {}), values)
        if self.uses_label:
            label = state.get("label")
            values |= dict.fromkeys(self._steps.labels, label[0] if label else None)
            if label:
                after["label"] = label
        for name, evaluate in self._steps.expressions:
            values[name] = evaluate(values)
        return after, {name: values[name] for name in self.names}

    def _apply_rings(self, before: Mapping[str, Ring], values: Fields) -> dict[str, Ring]:
        rings = {f: push(before.get(f, ()), values[f], keep) for f, keep in self.rings.items()}
        for name, field, summarise in self._steps.rings:
            values[name] = summarise(rings[field])
        return rings

    def _apply_spans(
        self, before: Mapping[str, Points], values: Fields, at_ms: int, now_ms: int
    ) -> dict[str, list[Sequence[Value]]]:
        spans = {f: insert(before.get(f, ([], [])), at_ms, values[f]) for f in self.spans}
        for name, field, length_ms, summarise in self._steps.spans:
            values[name] = summarise(between(spans[field], at_ms, length_ms))
        return {f: list(prune(points, self.spans[f], self.span_points, now_ms)) for f, points in spans.items()}

    def _apply_latest(self, before: Mapping[str, Value], values: Fields) -> dict[str, Value]:
        last = {f: before.get(f) if (v := values[f]) is None else v for f in self.latest}
        for name, field in self._steps.latest:
            values[name] = last[field]
        return last

    @cached_property
    def _steps(self) -> CallableSteps:
        return CallableSteps.of(self.steps, self.rings)

    def with_label(self, state: State, label: Scalar, observed: datetime, correction: int = 0) -> State:
        """The state once the label of the observation made at `observed` is known, for `lag: label`.

        The latest label of the newest observation stays, in whatever order labels arrive, and however often.
        """
        newness = [round(observed.timestamp() * 1_000_000), correction]
        known = state.get("label")
        if not self.uses_label or (known and known[1:] > newness):
            return state
        return {**state, "label": [label, *newness]}


def compile_features(spec: LoopSpec) -> FeaturePlan:
    """The plan for a spec; raises FeaturesRejected naming each field that is wrong and the fix."""
    compiler = _Compiler(spec)
    for i, feature in enumerate(spec.features):
        if len(compiler.errors) < ERRORS_LIMIT:
            compiler.add(i, feature)
    return compiler.plan()


class _Compiler:
    def __init__(self, spec: LoopSpec) -> None:
        self._spec = spec
        self._kinds: dict[str, Kind] = {f: _kind(s.type) for f, s in spec.fields.items()}
        self._known = dict(self._kinds)
        self._steps: list[tuple[str, Step]] = []
        self._names: dict[str, None] = {}
        self.errors: list[FieldError] = []

    def plan(self) -> FeaturePlan:
        windows = [step for _, step in self._steps if isinstance(step, Window)]
        rings, spans = _kept_per_field(windows)
        if sum(rings.values()) > ENTITY_POINTS // 2:
            self.errors.append(FieldError("features", f"windows over more than {ENTITY_POINTS // 2:,} events in all"))
        if self.errors:
            raise FeaturesRejected(self.errors)
        return FeaturePlan(
            fields=tuple(self._spec.fields),
            names=tuple(self._names),
            steps=tuple(self._steps),
            rings=rings,
            spans=spans,
            latest=tuple({w.field: None for w in windows if w.events is None and w.length_ms is None}),
            uses_label=any(step is None for _, step in self._steps),
            span_points=min(MAX_POINTS, ENTITY_POINTS // 2 // max(1, len(spans))),
            texts=frozenset(name for name in self._names if self._known.get(name) == "string"),
        )

    def add(self, i: int, feature: FeatureSpec) -> None:
        if feature.fields is not None:
            names = tuple(self._kinds) if feature.fields == "all" else feature.fields
            for name in names:
                if self._is_field(f"features.{i}.fields", name):
                    self._name(f"features.{i}.fields", name)
            return
        name = feature.name or ""
        if name in self._kinds:
            self._fail(f"features.{i}.name", f"{name!r} is a field of the schema; give the feature another name")
        self._name(f"features.{i}.name", name)
        if feature.expr is not None:
            self._expression(f"features.{i}.expr", name, feature.expr)
        elif feature.lag == "label":
            self._step(name, None, _kind(self._spec.label_type))
        else:
            self._window(i, name, feature)

    def _expression(self, path: str, name: str, text: str) -> None:
        try:
            expression = compile_expression(text, self._known)
        except ExpressionRejected as e:
            self._fail(path, str(e))
        else:
            self._step(name, expression, expression.kind)

    def _window(self, i: int, name: str, feature: FeatureSpec) -> None:
        function, field = feature.function or "", feature.field or ""
        if not self._is_field(f"features.{i}.{function}", field):
            return
        kind = self._kinds[field]
        if kind == "string" and function in OF_NUMBERS:
            self._fail(f"features.{i}.{function}", f"{field!r} is a string; {function} needs a number or boolean")
        seconds, events = feature.duration_s, feature.events
        if function in ("lag", "diff"):
            if seconds is not None:
                self._fail(f"features.{i}.over", f'{function} counts events; write over: "3 events"')
            events = events or 1
        if events is not None and events > MAX_POINTS:
            self._fail(f"features.{i}.over", f"at most {MAX_POINTS:,} events")
        window = Window(function, field, events, None if seconds is None else seconds * 1000)
        self._step(name, window, "number" if function in (*OF_NUMBERS, "count") else kind)

    def _is_field(self, path: str, name: str) -> bool:
        if name not in self._kinds:
            self._fail(path, f"{name!r} is no field of the schema; fields are {listed(self._kinds)}")
        return name in self._kinds

    def _name(self, path: str, name: str) -> None:
        if name in self._names:
            self._fail(path, f"{name!r} is there already; each feature needs its own name")
        self._names[name] = None

    def _step(self, name: str, step: Step, kind: Kind) -> None:
        self._steps.append((name, step))
        self._known[name] = kind

    def _fail(self, path: str, error: str) -> None:
        self.errors.append(FieldError(path, error))


def _to_ms(time: datetime) -> int:
    return round(time.timestamp() * 1000)


def _kind(type_name: str) -> Kind:
    return "string" if type_name == "string" else "number"


def _kept_per_field(windows: list[Window]) -> tuple[dict[str, int], dict[str, float]]:
    """How many events, and how many ms, must be kept of each field."""
    rings: dict[str, int] = {}
    spans: dict[str, float] = {}
    for w in windows:
        if w.events is not None:
            rings[w.field] = max(rings.get(w.field, 0), w.keep)
        elif w.length_ms is not None:
            spans[w.field] = max(spans.get(w.field, 0.0), w.length_ms)
    return rings, spans
