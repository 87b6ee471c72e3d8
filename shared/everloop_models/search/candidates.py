"""Features that a loop might have too: ratios, differences and windows of its numbers, the most telling first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import combinations, islice, permutations
from pathlib import Path

import numpy as np

from everloop_features.errors import FeaturesRejected
from everloop_features.plan import compile_features
from everloop_models.search.data import Array, read
from everloop_models.search.feature_columns import FeatureComputation
from everloop_schemas.envelope import Scalar
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import FeatureSpec

PAIRED_FIELDS, WINDOWED_FIELDS = 16, 50
"""Of the fields, in the order of the schema, so many are combined with each other, and have windows."""
LENGTHS = (5, 20)
"""Of windows, in events."""
FIRST_ROWS = 2_000
"""The rows by which candidates are ordered."""
BINS = 10
SAME = 0.999
"""Of the correlation of ranks."""


def candidates(folder: Path, spec: LoopSpec, most: int) -> list[FeatureSpec]:
    """The features to try, `most` at most: those that tell most of the label beyond the fields they are made of.

    What one tells is the correlation ratio (Pearson 1905): the share of the label's variance that lies between bins
    of the feature, over the first `FIRST_ROWS` rows. It sees any shape of dependence and costs no training.
    """
    rows = list(islice(read(folder), FIRST_ROWS))
    fields = _numbers(spec, {name for row in rows for name, value in row.features.items() if value is not None})
    possible = list(_possible(spec, fields))
    if not possible:
        return []
    labels = _label_columns([row.label for row in rows], spec.task == "regression")
    raw = {name: _numeric([row.features.get(name) for row in rows]) for name in fields}
    alone = {name: _told(column, labels) for name, column in raw.items()}
    computation = FeatureComputation(spec, possible)
    columns = np.array([_numeric(computation.next(row).values()) for row in rows]).T
    gains = [
        _told(column, labels) - max(alone[name] for name in fields if name in _sources(feature))
        for feature, column in zip(possible, columns, strict=True)
    ]
    order = sorted(range(len(possible)), key=lambda i: (-gains[i], possible[i].name))
    return [possible[i] for i in islice(_different(order, columns, list(raw.values())), most)]


def _different(order: Sequence[int], columns: Array, raw: Sequence[Array]) -> Iterator[int]:
    """The columns that do not rank the rows as a field, or a column before them, does: these would tell the same."""
    seen = [_ranks(column) for column in raw]
    for i in order:
        ranks = _ranks(columns[i])
        if ranks.any() and all(abs(float(ranks @ other)) < SAME for other in seen):
            seen.append(ranks)
            yield i


def _numbers(spec: LoopSpec, present: set[str]) -> list[str]:
    """The fields that are numbers, and features as they are: others are not in the rows."""
    given = [one.fields for one in spec.features if one.fields is not None]
    as_they_are = set(spec.fields) if "all" in given else {name for names in given for name in names}
    return [
        name
        for name, field in spec.fields.items()
        if name in as_they_are & present and field.type in ("number", "integer")
    ]


def _possible(spec: LoopSpec, fields: Sequence[str]) -> Iterator[FeatureSpec]:
    """Candidates that the spec does not have, under names that are free."""
    taken = {*spec.fields, *(feature.name for feature in spec.features)}
    known = {feature.model_dump_json(exclude={"name"}) for feature in spec.features}
    for feature in _all(fields):
        if feature.name in taken or feature.model_dump_json(exclude={"name"}) in known:
            continue
        with suppress(FeaturesRejected):  # such as a field that is named like a word of Python
            compile_features(spec.model_copy(update={"features": (feature,)}))
            taken.add(feature.name)
            yield feature


def _all(fields: Sequence[str]) -> Iterator[FeatureSpec]:
    paired = fields[:PAIRED_FIELDS]
    for a, b in permutations(paired, 2):
        yield FeatureSpec(name=_name(a, "per", b), expr=f"{a} / {b}")
    for a, b in combinations(paired, 2):
        yield FeatureSpec(name=_name(a, "less", b), expr=f"{a} - {b}")
    for field in fields[:WINDOWED_FIELDS]:
        for n in LENGTHS:
            yield FeatureSpec(name=_name(field, "mean", str(n)), mean=field, over=f"{n} events")
            yield FeatureSpec(name=_name(field, "diff", str(n)), diff=field, over=f"{n} events")


def _name(first: str, middle: str, last: str) -> str:
    """A name that is no longer than names may be."""
    return f"{first[:24]}_{middle}_{last[:24]}"


def _sources(feature: FeatureSpec) -> set[str]:
    return {feature.field} if feature.field else set((feature.expr or "").split())


def _numeric(values: Iterable[Scalar | None]) -> Array:
    return np.array([np.nan if value is None else float(value) for value in values])


def _ranks(values: Array) -> Array:
    """The order of the values, centred and of length 1; all 0 where they are equal."""
    ranks = np.unique(np.nan_to_num(values), return_inverse=True)[1].astype(np.float64)
    ranks -= ranks.mean()
    length = float(np.linalg.norm(ranks))
    return ranks / length if length else ranks


def _label_columns(labels: Sequence[object], is_regression: bool) -> Array:
    """Labels as columns of numbers: their ranks, which outliers do not rule, or one column a class."""
    if is_regression:
        return np.argsort(np.argsort(np.array(labels, dtype=np.float64))).astype(np.float64)[:, None]
    names = sorted(set(labels), key=str)[:100]
    return np.array([[float(label == name) for name in names] for label in labels])


def _told(values: Array, labels: Array) -> float:
    """The correlation ratio of labels on the bins of values; missing ones are a bin of their own."""
    finite = np.isfinite(values)
    if not finite.any():
        return 0.0
    edges = np.unique(np.quantile(values[finite], np.linspace(0, 1, BINS + 1)[1:-1]))
    bins = np.where(finite, np.searchsorted(edges, values, side="right"), BINS)
    centred = labels - labels.mean(axis=0)
    between = sum(
        len(part) * (part.mean(axis=0) ** 2).sum() for b in range(BINS + 1) if len(part := centred[bins == b])
    )
    whole = (centred**2).sum()
    return float(between / whole) if whole > 0 else 0.0
