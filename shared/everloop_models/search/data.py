"""The rows of a search: read one by one from their file, or as columns that are made once and mapped into memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from everloop_models.batch.rows import LARGEST, NO_TEXT, Columns, ordered_classes
from everloop_models.errors import ModelBroken
from everloop_models.search.protocol import ROWS
from everloop_schemas.envelope import Scalar

ABOUT, NUMBERS, TEXTS, LABELS = "about.json", "numbers.npy", "texts.npy", "labels.npy"
"""The files that a folder has beside its rows, once it is prepared; the last three for batch models alone."""
MAX_VALUES = 10_000
"""Different values that are known of one text; further ones count as missing. A model encodes the 100 most frequent."""
MIN_ROWS = 60

Array = NDArray[Any]


class SearchRow(msgspec.Struct):
    """One outcome: the features as they were used, the label that counts, and the entity it is about."""

    features: dict[str, Any]
    label: Any
    entity: str = ""


def read(folder: Path) -> Iterator[SearchRow]:
    """The rows in their order, one in memory at a time."""
    decoder = msgspec.json.Decoder(SearchRow)
    with (folder / ROWS).open("rb") as lines:
        for line in lines:
            yield decoder.decode(line)


@dataclass(frozen=True)
class SearchData:
    """What is known of the rows in a folder, and their columns where they were made."""

    folder: Path
    rows: int
    classes: tuple[Scalar, ...] | None
    number_names: tuple[str, ...] = ()
    text_names: tuple[str, ...] = ()
    values: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """As `prepare` has stored it."""
        about = json.loads((folder / ABOUT).read_bytes())
        classes, values = about["classes"], tuple(map(tuple, about["values"]))
        names = tuple(about["number_names"]), tuple(about["text_names"])
        return cls(folder, about["rows"], None if classes is None else tuple(classes), *names, values)

    def store(self) -> None:
        """Write it beside the rows."""
        about = {name: getattr(self, name) for name in ("rows", "classes", "number_names", "text_names", "values")}
        (self.folder / ABOUT).write_text(json.dumps(about))

    @cached_property
    def labels(self) -> Array:
        """Numbers, or for classes their places in `classes`."""
        return np.asarray(np.load(self.folder / LABELS, mmap_mode="r"))

    def columns(self, rows: slice) -> Columns:
        """The columns of these rows."""
        numbers = np.load(self.folder / NUMBERS, mmap_mode="r")[rows]
        codes = np.load(self.folder / TEXTS, mmap_mode="r")[rows]
        texts = np.empty(codes.shape, dtype=object)
        for i, values in enumerate(self.values):
            texts[:, i] = np.array([NO_TEXT, *values], dtype=object)[codes[:, i]]
        return Columns(self.number_names, self.text_names, np.asarray(numbers), texts)


def prepare(folder: Path, is_batch: bool, known_classes: tuple[Scalar, ...] | None, is_regression: bool) -> SearchData:
    """Read the rows once, and again to write them as columns where `is_batch`; raises ModelBroken for unusable ones.

    Of all rows this keeps their labels' classes and the known values of texts in memory, and nothing else.
    """
    survey = _Survey()
    for row in read(folder):
        survey.add(row)
    survey.check(is_regression)
    classes = None if is_regression else ordered_classes(survey.labels.keys(), known_classes or ())
    names = tuple(sorted(survey.numbers)), tuple(sorted(survey.texts))
    values = tuple(tuple(survey.texts[name]) for name in names[1])
    data = SearchData(folder, survey.rows, classes, *names, values)
    data.store()
    if is_batch:
        _write_columns(data)
    return data


class _Survey:
    """What one pass over the rows finds."""

    def __init__(self) -> None:
        self.rows, self.labels = 0, dict[Scalar, None]()
        self.numbers = set[str]()
        self.texts = dict[str, dict[str, None]]()

    def add(self, row: SearchRow) -> None:
        self.rows += 1
        if len(self.labels) < MAX_VALUES:
            self.labels.setdefault(row.label)
        for name, value in row.features.items():
            if isinstance(value, str):
                known = self.texts.setdefault(name, {})
                if len(known) < MAX_VALUES:
                    known.setdefault(value)
            elif value is not None:
                self.numbers.add(name)

    def check(self, is_regression: bool) -> None:
        """Raise ModelBroken where no model can be judged by these rows."""
        if self.rows < MIN_ROWS:
            raise ModelBroken(f"the data set has {self.rows} rows; a search needs {MIN_ROWS} or more")
        if len(self.labels) < 2:
            label = next(iter(self.labels))
            raise ModelBroken(f"all {self.rows:,} rows have the label {label!r:.60}: nothing tells models apart")
        if not is_regression and len(self.labels) == MAX_VALUES:
            raise ModelBroken(f"the labels have {MAX_VALUES:,} classes or more; a search takes fewer")
        if both := sorted(self.texts.keys() & self.numbers):
            raise ModelBroken(f"the feature {both[0]!r} is text in some rows and a number in others")


def _write_columns(data: SearchData) -> None:
    """Write the columns through mapped files, so that the system may write out what does not fit into memory."""
    numbers = _mapped(data.folder / NUMBERS, np.float32, (data.rows, len(data.number_names)))
    texts = _mapped(data.folder / TEXTS, np.int16, (data.rows, len(data.text_names)))
    labels = _mapped(data.folder / LABELS, np.float64 if data.classes is None else np.int64, (data.rows,))
    codes = [{value: n for n, value in enumerate(values, 1)} for values in data.values]
    places = {value: n for n, value in enumerate(data.classes or ())}
    nan = float("nan")
    for i, row in enumerate(read(data.folder)):
        get = row.features.get
        numbers[i] = [nan if (v := get(name)) is None else min(max(v, -LARGEST), LARGEST) for name in data.number_names]
        for j, name in enumerate(data.text_names):
            texts[i, j] = codes[j].get(get(name) or NO_TEXT, 0)
        labels[i] = row.label if data.classes is None else places[row.label]
    for column in (numbers, texts, labels):
        column.flush()


def _mapped(file: Path, kind: type[np.generic], shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    return np.lib.format.open_memmap(file, "w+", kind, shape)
