"""What the gate requires of a challenger by itself, and which of it a line does not meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from everloop_schemas.conditions import Condition
from everloop_schemas.training import Measured

Measures = Mapping[str, Measured]
"""What training measured of a line, by what the requirements name."""
UNMEASURED = Measured(value=None, outcomes=0)


CONFIDENT_SHARE = 1.2816 / 1.96
"""How far into the interval of 95 % a requirement must hold: to the bound that is right in 90 of 100 cases."""


class Unmet(NamedTuple):
    """A requirement that a line breaks, or of which it is not known or not certain: `key` tells the two apart."""

    key: str
    reason: str


def find_unmet(required: Sequence[str], measures: Measures) -> list[Unmet]:
    """The requirements that a line breaks, or of which its outcomes do not say with a confidence of 90 % that it meets
    them. Where a metric has no interval, its value counts.

    The value alone would let a line pass that breaks a requirement clearly, while its outcomes are few: it is looked at
    with every report, and once is enough.
    """
    unmet = []
    for text in required:
        condition = Condition.parse(text)
        measured = measures.get(condition.measure, UNMEASURED)
        if measured.value is None:
            reason = f"{condition} is required, and not known yet after {measured.outcomes} outcomes that count"
            unmet.append(Unmet(f"{condition} unknown", reason))
        elif not condition.holds(measured.value):
            unmet.append(Unmet(str(condition), f"{condition} is required, and it is {_describe(measured)}"))
        elif not condition.holds(_confident_bound(condition, measured, measured.value)):
            reason = f"{condition} is required, and not certain yet: it is {_describe(measured)}"
            unmet.append(Unmet(f"{condition} unknown", reason))
    return unmet


def _confident_bound(condition: Condition, measured: Measured, value: float) -> float:
    """The worse end of what the value may be, with a confidence of 90 %."""
    end = measured.high if condition.comparison.startswith("<") else measured.low
    return value if end is None else value + CONFIDENT_SHARE * (end - value)


def _describe(measured: Measured) -> str:
    interval = "" if measured.low is None or measured.high is None else f" ({measured.low:.3f} to {measured.high:.3f})"
    return f"{measured.value:.4g}{interval} over {measured.outcomes} outcomes"
