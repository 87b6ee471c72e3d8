"""What the gate requires of a challenger by itself, and which of it a line does not meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from everloop_schemas.conditions import Condition
from everloop_schemas.training import Measured

Measures = Mapping[str, Measured]
"""What training measured of a line, by what the requirements name."""
UNMEASURED = Measured(value=None, outcomes=0)


class Unmet(NamedTuple):
    """A requirement that a line does not meet, or of which it is not known: `key` tells the two apart."""

    key: str
    reason: str


def find_unmet(required: Sequence[str], measures: Measures) -> list[Unmet]:
    """The requirements that are not met by the values measured, or have none because there are too few outcomes.

    The value counts, not a bound of its interval: with the window's outcomes the interval of a difference between two
    groups is wider than the differences that requirements are about, so that hardly any line could pass.
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
    return unmet


def _describe(measured: Measured) -> str:
    interval = "" if measured.low is None or measured.high is None else f" ({measured.low:.3f} to {measured.high:.3f})"
    return f"{measured.value:.4g}{interval} over {measured.outcomes} outcomes"
