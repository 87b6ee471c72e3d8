"""The rows of a data set as columns: numbers in single precision, and texts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from everloop_models.errors import ModelBroken
from everloop_schemas.envelope import Fields, Scalar

Numbers = NDArray[np.float32]
LARGEST = float(np.finfo(np.float32).max)
NO_TEXT = ""
"""Stands for a text that is missing."""


class Row(NamedTuple):
    """One outcome: the features as they were used, and the label that counts."""

    features: Fields
    label: Scalar


@dataclass(frozen=True)
class Columns:
    """Features by column, in the order of the rows. `numbers` has NaN where a value is missing."""

    number_names: tuple[str, ...]
    text_names: tuple[str, ...]
    numbers: Numbers
    texts: NDArray[np.object_]

    @property
    def stacked(self) -> NDArray[Any]:
        """All columns in one array: the numbers, then the texts.

        It is in double precision where there are no texts, so that what is computed with the numbers is exact.
        """
        if not self.text_names:
            return self.numbers.astype(np.float64)
        return np.concatenate([self.numbers.astype(np.float64).astype(np.object_), self.texts], axis=1)

    @property
    def usual(self) -> dict[str, Scalar]:
        """The median of each number that is there, and the most frequent text; of even halves, the first of the two."""
        found: dict[str, Scalar] = {}
        for name, numbers in zip(self.number_names, self.numbers.T, strict=True):
            known = np.sort(numbers[~np.isnan(numbers)])
            if len(known):
                found[name] = float(known[(len(known) - 1) // 2])
        for name, texts in zip(self.text_names, self.texts.T, strict=True):
            found[name] = most_frequent(texts, 1)[0] if len(texts) else NO_TEXT
        return found

    def part(self, rows: slice | NDArray[Any]) -> Columns:
        """These rows alone."""
        return Columns(self.number_names, self.text_names, self.numbers[rows], self.texts[rows])

    def beside(self, more: Columns) -> Columns:
        """These columns and more of the same rows."""
        numbers, texts = np.hstack([self.numbers, more.numbers]), np.hstack([self.texts, more.texts])
        return Columns(self.number_names + more.number_names, self.text_names + more.text_names, numbers, texts)

    def __len__(self) -> int:
        return len(self.numbers)


def read_rows(lines: Iterable[bytes]) -> list[Row]:
    """The rows in lines of JSON, each an object with `features` and `label`; other keys are left alone."""
    found = map(json.loads, lines)
    return [Row(row["features"], row["label"]) for row in found]


def to_columns(rows: Sequence[Fields], like: Columns | None = None) -> Columns:
    """The columns of all features in the rows, sorted by name, or those of `like`; what a row lacks is missing there.

    Raises ModelBroken for a feature that is text in one row and a number in another.
    """
    number_names, text_names = (like.number_names, like.text_names) if like else _names(rows)
    numbers = np.full((len(rows), len(number_names)), np.nan, dtype=np.float32)
    texts = np.full((len(rows), len(text_names)), NO_TEXT, dtype=object)
    for i, row in enumerate(rows):
        for j, name in enumerate(number_names):
            if (value := row.get(name)) is not None:
                numbers[i, j] = min(max(float(value), -LARGEST), LARGEST)
        for j, name in enumerate(text_names):
            if (value := row.get(name)) is not None:
                texts[i, j] = value
    return Columns(number_names, text_names, numbers, texts)


def _names(rows: Sequence[Fields]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    texts, numbers = set[str](), set[str]()
    for row in rows:
        for name, value in row.items():
            if value is not None:
                (texts if isinstance(value, str) else numbers).add(name)
    if both := sorted(texts & numbers):
        raise ModelBroken(f"the feature {both[0]!r} is text in some rows and a number in others; give one another name")
    return tuple(sorted(numbers)), tuple(sorted(texts))


def most_frequent(values: Iterable[str], most: int) -> list[str]:
    """The most frequent values, at most so many, sorted."""
    counted = Counter(values)
    return sorted(sorted(counted, key=lambda value: (-counted[value], value))[:most])


def ordered_classes(seen: Set[Scalar], known: Sequence[Scalar]) -> tuple[Scalar, ...]:
    """The classes in the rows: in the order of the spec, else sorted."""
    first = [value for value in known if value in seen]
    return *first, *sorted(seen - set(first), key=lambda value: (type(value).__name__, value))
