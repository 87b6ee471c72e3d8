"""Conditions on a measure, such as `accuracy >= 0.8`, as gate requirements and alert rules write them."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Annotated, NamedTuple, Self

from pydantic import AfterValidator, Field

from everloop_schemas.names import FIELD_NAME

FAIRNESS_MEASURES = ("demographic_parity", "equal_opportunity", "equalised_odds", "calibration")
"""Each is a difference between groups, 0 where all are treated alike."""
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
FIELD = FIELD_NAME.strip("^$")
FORM = re.compile(
    rf"^\s*(?P<measure>[a-z][a-z0-9_]*|fairness\.{FIELD}\.({'|'.join(FAIRNESS_MEASURES)}))"
    r"\s*(?P<comparison><=|>=|<|>)\s*(?P<bound>-?\d+(\.\d+)?(e-?\d+)?)\s*$"
)


class Condition(NamedTuple):
    """A measure, `<=`, `>=`, `<` or `>`, and a bound. A measure is a metric, or `fairness.<field>.<measure>`."""

    measure: str
    comparison: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """The condition; ValueError where the text is none."""
        found = FORM.match(text)
        if found is None:
            raise ValueError(
                f"{text[:80]!r} must be a measure, <=, >=, < or >, and a number, such as accuracy >= 0.8 "
                "or fairness.sex.equal_opportunity <= 0.1"
            )
        return cls(found["measure"], found["comparison"], float(found["bound"]))

    @property
    def fairness(self) -> tuple[str, str] | None:
        """The field whose groups are compared, and by which measure; None for a metric."""
        _, *rest = self.measure.split(".")
        return (rest[0], rest[1]) if rest else None

    def holds(self, value: float) -> bool:
        """Whether a value meets the condition."""
        return COMPARISONS[self.comparison](value, self.bound)

    def __str__(self) -> str:
        return f"{self.measure} {self.comparison} {self.bound:g}"


def _check(text: str) -> str:
    return str(Condition.parse(text))


ConditionText = Annotated[str, Field(max_length=200), AfterValidator(_check)]
"""A condition as text, in one form."""
