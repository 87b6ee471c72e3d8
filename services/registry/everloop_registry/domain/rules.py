"""What the door asks of a spec beyond its form; a spec that an older version took is read back without it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from everloop_schemas.cron import Cron
from everloop_schemas.envelope import Scalar
from everloop_schemas.loop import LONGEST_S, FieldSpec, LoopSpec, seconds
from everloop_shared.errors import FieldError
from everloop_shared.text import is_readable

MAX_VALUES = 1_000
MAX_TEXT = 256
MAX_SHARES = 20
MAX_PARAMETERS = 50
MAX_CRON = 200
MAX_EXPRESSIONS = 20_000
SHORTEST_S = 0.001
SURE = 0.9999
SMALLEST_SHARE = 0.001
COUNT = 10_000_000
INTEGER_LIMIT = 2**63
BELOW: dict[str, tuple[float, float]] = {
    "accuracy": (0, 1),
    "f1": (0, 1),
    "roc_auc": (0, 1),
    "r2": (-math.inf, 1),
    "log_loss": (0, math.inf),
    "mae": (0, math.inf),
    "rmse": (0, math.inf),
}
UNSUPPORTED: dict[str, tuple[Any, str]] = {
    "rollout.approval": ("none", "a candidate that holds through its rollout is promoted without an approval"),
    "monitor.slices": ([], "no slice of the data is measured on its own"),
    "monitor.fairness": ([], "no groups are compared"),
    "monitor.latency_p99": (None, "no latency is compared with an objective"),
}
"""By path, a field that no code reads yet: the value that describes what happens, and what happens.

Specs on the log may hold such a field, so the class reads it back; `apply` refuses every other value.
"""
KINDS: dict[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,)}


def unsupported_fields(raw: Mapping[str, Any]) -> Iterator[FieldError]:
    """Each field of a loop file that asks for what does not work yet."""
    for path, (harmless, what_happens) in UNSUPPORTED.items():
        part, _, name = path.partition(".")
        values = raw.get(part)
        if isinstance(values, dict) and values.get(name, harmless) != harmless:
            yield FieldError(path, f"does not work yet: {what_happens}; remove it")


def broken_rules(spec: LoopSpec) -> Iterator[FieldError]:
    """Each value that would break something later, by dotted path, with the fix."""
    for name, field in spec.fields.items():
        yield from _field(f"schema.{name}", field)
    if (length := sum(len(f.expr or "") for f in spec.features)) > MAX_EXPRESSIONS:
        said = f"have {length:,} characters of expr in all; at most {MAX_EXPRESSIONS:,}: every event pays for them"
        yield FieldError("features", said)
    yield from _durations(spec)
    yield from _classes(spec)
    yield from _retrain(spec)
    yield from _rollout(spec)
    for i, model in enumerate(spec.models):
        if len(model.parameters) > MAX_PARAMETERS:
            yield FieldError(f"models.{i}", f"has {len(model.parameters)} parameters; at most {MAX_PARAMETERS}")


def _field(path: str, field: FieldSpec) -> Iterator[FieldError]:
    low, high = field.min, field.max
    if field.type == "integer":
        yield from _whole(path, low, high)
    if field.enum is None:
        return
    yield from _values(f"{path}.enum", field.enum, field.type)
    for value in field.enum:
        if isinstance(value, int | float) and not ((low is None or low <= value) and (high is None or value <= high)):
            yield FieldError(f"{path}.enum", f"has {_short(value)}, which lies outside min and max; leave it out")
            return


def _whole(path: str, low: float | None, high: float | None) -> Iterator[FieldError]:
    lowest = -INTEGER_LIMIT if low is None else max(-INTEGER_LIMIT, math.ceil(low))
    highest = INTEGER_LIMIT - 1 if high is None else min(INTEGER_LIMIT - 1, math.floor(high))
    if lowest > highest:
        yield FieldError(f"{path}.min", "leaves no whole number of 64 bits up to max; widen the bounds")


def _values(path: str, values: tuple[Scalar, ...], kind: str) -> Iterator[FieldError]:
    """One error, if any: these are all the values that ever fit, so each must be of the kind, and there once."""
    if not values:
        yield FieldError(path, "is empty, and nothing would fit; name the values, or leave it out")
    elif len(values) > MAX_VALUES:
        yield FieldError(path, f"has {len(values):,} values; at most {MAX_VALUES:,}")
    elif strange := [v for v in values if type(v) not in KINDS[kind]]:
        article = "an" if kind == "integer" else "a"
        said = f"has {_short(strange[0])}, which is not {article} {kind}; write values of that type, text in quotes"
        yield FieldError(path, said)
    elif any(isinstance(v, str) and not readable(v) for v in values):
        yield FieldError(path, f"has text that is empty, over {MAX_TEXT} characters, or with control characters")
    elif len(set(values)) < len(values):
        yield FieldError(path, "names a value twice; keep one")


def _classes(spec: LoopSpec) -> Iterator[FieldError]:
    classes = spec.label.classes
    if spec.label_type == "integer":
        yield from _whole("label", *spec.label_bounds)
    if classes is None:
        return
    wrong = list(_values("label.classes", classes, spec.label_type))
    yield from wrong
    if not wrong and len(classes) < 2:
        yield FieldError("label.classes", "has one class; name two at least, or leave it out")


def _durations(spec: LoopSpec) -> Iterator[FieldError]:
    durations = [("label.within", spec.label.within)]
    durations += [(f"features.{i}.over", f.over) for i, f in enumerate(spec.features) if f.over and "event" not in f.over]
    for path, text in durations:
        if not SHORTEST_S <= seconds(text) <= LONGEST_S:
            yield FieldError(path, f"must be from 1 ms to {LONGEST_S / 86400:,.0f} days, such as 7d")


def _retrain(spec: LoopSpec) -> Iterator[FieldError]:
    retrain = spec.retrain
    if spec.refresh.every < 1:
        yield FieldError("refresh.every", "must be 1 outcome at least, such as 100")
    for name in ("on_feedback", "on_labels"):
        if (getattr(retrain, name) or 0) > COUNT:
            yield FieldError(f"retrain.{name}", f"must be at most {COUNT:,}")
    low, high = BELOW[spec.metric]
    if retrain.below is not None and not low < retrain.below < high:
        bound = f"above {low:g}" if high == math.inf else f"below {high:g}" if low == -math.inf else "between 0 and 1"
        yield FieldError("retrain.below", f"must be {bound} for {spec.metric}, as the metric is")
    if retrain.on_schedule is not None and len(retrain.on_schedule) > MAX_CRON:
        yield FieldError("retrain.on_schedule", f"must have at most {MAX_CRON} characters")
    elif retrain.on_schedule is not None and Cron(retrain.on_schedule).next(0) is None:
        yield FieldError("retrain.on_schedule", "names a day that never comes; look at day and month")


def _rollout(spec: LoopSpec) -> Iterator[FieldError]:
    if spec.gate.confidence > SURE:
        yield FieldError("gate.confidence", f"must be at most {SURE}; more is never reached")
    if len(spec.rollout.canary) > MAX_SHARES:
        yield FieldError("rollout.canary", f"has {len(spec.rollout.canary)} shares; at most {MAX_SHARES}")
    if any(s < SMALLEST_SHARE for s in spec.rollout.canary):
        yield FieldError("rollout.canary", f"has a share below {SMALLEST_SHARE:.1%}, which tells nothing")


def readable(text: str) -> bool:
    """Whether a value is 1 to `MAX_TEXT` characters that a person can read and write again."""
    return 0 < len(text) <= MAX_TEXT and is_readable(text)


def _short(value: Any) -> str:
    return f"{value!r:.40}".lower() if isinstance(value, bool) else f"{value!r:.40}"
