"""Numbers that are always finite: what leaves this package is a finite number or None."""

from __future__ import annotations

import math
from collections.abc import Iterable

from everloop_schemas.envelope import Scalar

EXACT = 2**53
"""Whole numbers up to here are exact as floats; larger ones become floats, so that none grows without bound."""


def finite(value: object) -> int | float | None:
    """The value as a finite number, None for anything else. Booleans count as 0 and 1."""
    if isinstance(value, int):
        if -EXACT <= value <= EXACT:
            return int(value)
        try:
            return float(value)
        except OverflowError:
            return None
    return value if isinstance(value, float) and math.isfinite(value) else None


def numbers(values: Iterable[Scalar | None]) -> list[int | float]:
    """The numbers among the values: missing ones, and leftovers of another type, are skipped."""
    return [n for v in values if (n := finite(v)) is not None]
