"""The steps of a plan, and their form that is ready to call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from everloop_features.expression import Evaluate, Expression
from everloop_features.windows import SUMMARIES, Summary, shifted


@dataclass(frozen=True)
class Window:
    """One window feature over the last `events` or `length_ms`; without both it is the latest value."""

    function: str
    field: str
    events: int | None
    length_ms: float | None

    @property
    def keep(self) -> int:
        """How many events of the field must be kept."""
        return (self.events or 0) + (self.function in ("lag", "diff"))


Step = Window | Expression | None
"""How one feature is computed; None is the label of `lag: label`."""


@dataclass(frozen=True)
class CallableSteps:
    """The steps of a plan by what they read, with the name of each feature.

    Windows and labels depend on no other feature. So they are computed first, and then the expressions in their order.
    """

    rings: tuple[tuple[str, str, Summary], ...]
    spans: tuple[tuple[str, str, float, Summary], ...]
    latest: tuple[tuple[str, str], ...]
    labels: tuple[str, ...]
    expressions: tuple[tuple[str, Evaluate], ...]

    @classmethod
    def of(cls, steps: Iterable[tuple[str, Step]], kept: Mapping[str, int]) -> CallableSteps:
        """The form of these steps, where `kept` events of each field are at hand."""
        steps = tuple(steps)
        windows = [(name, step) for name, step in steps if isinstance(step, Window)]
        by_events = [(name, w, w.events) for name, w in windows if w.events is not None]
        by_time = [(name, w, w.length_ms) for name, w in windows if w.events is None and w.length_ms is not None]
        return cls(
            rings=tuple((name, w.field, _over_ring(w.function, n, kept[w.field])) for name, w, n in by_events),
            spans=tuple((name, w.field, length_ms, SUMMARIES[w.function]) for name, w, length_ms in by_time),
            latest=tuple((name, w.field) for name, w in windows if w.events is None and w.length_ms is None),
            labels=tuple(name for name, step in steps if step is None),
            expressions=tuple((name, step.evaluate) for name, step in steps if isinstance(step, Expression)),
        )


def _over_ring(function: str, events: int, kept: int) -> Summary:
    """A function over the last `events` of the `kept` values of a ring."""
    if function in ("lag", "diff"):
        return lambda ring: shifted(function, ring, events)
    summarise = SUMMARIES[function]
    return summarise if events >= kept else lambda ring: summarise(ring[-events:])
