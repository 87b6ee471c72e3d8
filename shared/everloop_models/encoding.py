"""Encodes feature values as the numbers that models learn from, the same in training and in serving."""

from __future__ import annotations

from math import copysign

from everloop_models.scaling import LARGEST
from everloop_schemas.envelope import Fields

CATEGORIES_PER_FEATURE = 200
OTHER_CATEGORY = "other"


class Encoder:
    """Numbers stay, booleans become 0 and 1, text becomes the column `name=value` at 1, a missing value is left out.

    Numbers beyond `LARGEST` count as that, so that their squares and sums stay finite.
    Models treat an absent column as missing. Of each text feature the first `CATEGORIES_PER_FEATURE` values have their
    own column and the rest share `name=other`, so that memory is bounded. Every column name is always the same string
    object, so that an artifact's bytes do not depend on whether the learner was restored from a snapshot.
    """

    __slots__ = ("_categories", "_names")

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._categories: dict[str, dict[str, str]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The features seen, sorted."""
        return tuple(sorted(self._names))

    def encode(self, features: Fields) -> tuple[dict[str, float], dict[str, float]]:
        """Numeric columns, and one-hot columns."""
        numbers: dict[str, float] = {}
        hot: dict[str, float] = {}
        names = self._names
        for name, value in features.items():
            if value is None:
                continue
            name = names.get(name, name)
            if isinstance(value, str):
                hot[self._column(name, value)] = 1.0
            else:
                number = float(value)
                numbers[name] = number if -LARGEST < number < LARGEST else copysign(LARGEST, number)
        return numbers, hot

    def feature_of(self, column: str) -> str:
        """The feature that a column was made of."""
        if column in self._names:
            return column
        found = [name for name in self._categories if column.startswith(f"{name}=")]
        return max(found, key=len, default=column)

    def learn(self, features: Fields) -> None:
        """Remember the names and categories of an observation; call it before `encode` of the same."""
        names = self._names
        for name, value in features.items():
            if name not in names:
                names[name] = name
            if isinstance(value, str):
                known = self._categories.setdefault(self._names[name], {})
                if value not in known and len(known) < CATEGORIES_PER_FEATURE:
                    known[value] = f"{name}={value}"

    def _column(self, name: str, value: str) -> str:
        known = self._categories.get(name)
        return (known.get(value) if known else None) or f"{name}={OTHER_CATEGORY}"

    def __getstate__(self) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
        return self._names, self._categories

    def __setstate__(self, state: tuple[dict[str, str], dict[str, dict[str, str]]]) -> None:
        self._names, self._categories = state
