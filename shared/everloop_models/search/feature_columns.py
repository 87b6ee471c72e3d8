"""A further feature of rows that are there already, computed as the feature service would: per entity, in order."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime

import numpy as np

from everloop_features.plan import FeaturePlan, State, compile_features
from everloop_models.batch.rows import LARGEST, NO_TEXT, Columns
from everloop_models.search.data import SearchRow
from everloop_schemas.envelope import Scalar
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import FeatureSpec

MAX_ENTITIES = 100_000
"""Entities whose windows are kept; those that were not seen for longest start empty."""
UNUSED_TIME = datetime(2000, 1, 1, tzinfo=UTC)
"""Windows over events do not look at the time, and no other ones are proposed."""


class FeatureComputation:
    """Computes features from the fields that rows carry as features of the same name."""

    def __init__(self, spec: LoopSpec, features: Iterable[FeatureSpec], max_entities: int = MAX_ENTITIES) -> None:
        self._plan: FeaturePlan = compile_features(spec.model_copy(update={"features": tuple(features)}))
        self._states: OrderedDict[str, State] = OrderedDict()
        self._max_entities = max_entities

    @property
    def entities(self) -> Collection[str]:
        """Those whose windows are kept."""
        return self._states.keys()

    def next(self, row: SearchRow) -> dict[str, Scalar | None]:
        """The features of the next row."""
        state = self._states.pop(row.entity, None) or self._plan.empty()
        state, found = self._plan.apply(state, row.features, UNUSED_TIME)
        if state:
            self._states[row.entity] = state
            if len(self._states) > self._max_entities:
                self._states.popitem(last=False)
        return found


def with_feature(rows: Iterable[SearchRow], spec: LoopSpec, feature: FeatureSpec) -> Iterator[SearchRow]:
    """The rows with one feature more."""
    computation = FeatureComputation(spec, (feature,))
    for row in rows:
        row.features |= computation.next(row)
        yield row


def added_column(rows: Iterable[SearchRow], total: int, spec: LoopSpec, feature: FeatureSpec) -> Columns:
    """One numeric feature of the rows as a column."""
    computation, name = FeatureComputation(spec, (feature,)), feature.name or ""
    numbers = np.full((total, 1), np.nan, dtype=np.float32)
    for i, row in enumerate(rows):
        if (value := computation.next(row)[name]) is not None:
            numbers[i, 0] = min(max(float(value), -LARGEST), LARGEST)
    return Columns((name,), (), numbers, np.full((total, 0), NO_TEXT, dtype=object))
