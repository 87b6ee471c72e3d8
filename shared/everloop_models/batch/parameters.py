"""What a parameter of a batch estimator may be, as the catalogue writes it: `integer 1..2000`, `text gini|entropy`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from everloop_schemas.envelope import Scalar


class Kind(NamedTuple):
    """One kind of value: `boolean`, `none`, `text` (one of `texts`), `integer` or `number` from `low` to `high`.

    With `above` the value must be greater than `low`.
    """

    name: str
    low: float = 0.0
    high: float = 0.0
    above: bool = False
    texts: tuple[str, ...] = ()

    def takes(self, value: Scalar | None) -> bool:
        """Whether the value is of this kind."""
        if self.name == "none":
            return value is None
        if self.name == "boolean":
            return isinstance(value, bool)
        if self.name == "text":
            return value in self.texts
        if isinstance(value, bool) or not isinstance(value, int if self.name == "integer" else int | float):
            return False
        return math.isfinite(value) and (self.low < value if self.above else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        """As the catalogue writes it."""
        if self.name == "text":
            return f"text {'|'.join(self.texts)}"
        if self.name in ("boolean", "none"):
            return self.name
        return f"{self.name} {'>' if self.above else ''}{self.low:.12g}..{self.high:.12g}"

    @property
    def described(self) -> str:
        """As an error names it."""
        if self.name == "text":
            return f"one of {', '.join(self.texts)}"
        if self.name == "none":
            return "null"
        if self.name == "boolean":
            return "true or false"
        what = "a whole number" if self.name == "integer" else "a number"
        start = f"above {self.low:,.12g} and up to" if self.above else f"from {self.low:,.12g} to"
        return f"{what} {start} {self.high:,.12g}"


def read_kind(written: str) -> Kind:
    """The kind that `str` wrote."""
    name, _, rest = written.partition(" ")
    if name == "text":
        return Kind(name, texts=tuple(rest.split("|")))
    if name in ("boolean", "none"):
        return Kind(name)
    low, _, high = rest.partition("..")
    return Kind(name, float(low.removeprefix(">")), float(high), low.startswith(">"))


def parameter_error(kinds: Iterable[Kind], value: Scalar | None) -> str | None:
    """Why a value is none of these kinds, None where it is."""
    kinds = list(kinds)
    if any(kind.takes(value) for kind in kinds):
        return None
    return f"must be {' or '.join(kind.described for kind in kinds)}"
