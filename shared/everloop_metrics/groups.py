"""Groups of a field's values, by which outcomes are divided: each value as it is, or ranges of numbers."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field

from everloop_metrics import class_name
from everloop_schemas.envelope import Scalar
from everloop_shared.arithmetic import bounded

MAX_GROUPS = 20
"""More values of a field are one group, `OTHER`; numbers with more values are cut into ranges."""
MAX_RANGES = 5
FIRST_NUMBERS = 200
"""The numbers after which it is decided whether they are cut, and where."""
MAX_NAME_CHARACTERS = 60
OTHER, MISSING = "other", "missing"
SAME: Mapping[str, str] = {}


@dataclass
class Groups:
    """The groups of one field. A value is in the same group whenever it comes, but for the renames that `add` returns.

    `names` are the groups of values as they are, in the order of their first appearance. Numbers wait in `first`: until
    `FIRST_NUMBERS` have come, each is a group of its own. Then they stay so where they have at most `MAX_GROUPS`
    values, or are cut at `edges`, their quantiles. `first` is None after that.
    """

    names: list[str] = field(default_factory=list)
    first: list[float] | None = field(default_factory=list)
    edges: list[float] = field(default_factory=list)

    def add(self, value: Scalar | None) -> Mapping[str, str]:
        """Take in a value; the groups that have a new name from now on, which may be the same one."""
        if is_number(value) and self.first is not None:
            self.first.append(bounded(value))
            return self.settle() if len(self.first) >= FIRST_NUMBERS else SAME
        if value is not None and not (is_number(value) and self.edges):
            self._admit(_text(value))
        return SAME

    def name_of(self, value: Scalar | None) -> str:
        """The group of a value that was added."""
        if value is None:
            return MISSING
        if is_number(value) and self.edges:
            return self._range(bounded(value))
        text = _text(value)
        return text if text in self.names or (is_number(value) and self.first is not None) else OTHER

    def settle(self) -> Mapping[str, str]:
        """Decide whether the numbers so far are cut into ranges; the new names of the groups that they were."""
        numbers, self.first = sorted(self.first or ()), None
        values = list(dict.fromkeys(numbers))
        if len(values) <= MAX_GROUPS:
            for value in values:
                self._admit(_text(value))
        else:
            cuts = {numbers[len(numbers) * i // MAX_RANGES] for i in range(1, MAX_RANGES)}
            self.edges = sorted(cuts - {numbers[0]})
        return {_text(value): self.name_of(value) for value in values}

    def settled(self) -> tuple[Groups, Mapping[str, str]]:
        """The groups as if no more numbers came, with the new names; these stay as they are."""
        copied = deepcopy(self)
        return copied, copied.settle() if copied.first else SAME

    def _admit(self, name: str) -> None:
        if len(self.names) < MAX_GROUPS and name not in self.names:
            self.names.append(name)

    def _range(self, number: float) -> str:
        at = bisect_right(self.edges, number)
        if at == 0:
            return f"below {_text(self.edges[0])}"
        low = _text(self.edges[at - 1])
        return f"{low} and above" if at == len(self.edges) else f"{low} to below {_text(self.edges[at])}"


def is_number(value: Scalar | None) -> bool:
    """Whether a value is a number; booleans are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Scalar) -> str:
    """A value as the name of its group; 1 and 1.0 are one."""
    if is_number(value):
        number = bounded(value)
        return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
    return class_name(value)[:MAX_NAME_CHARACTERS]
