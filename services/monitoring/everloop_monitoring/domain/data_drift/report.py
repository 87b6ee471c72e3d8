"""What the endpoint for features answers: each column as it was and as it is now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from everloop_features.expectations import describe
from everloop_monitoring.domain.data_drift.columns import FIRST_BIN, MISSING, OTHER
from everloop_monitoring.domain.data_drift.comparison import COMPARISON, Comparison, Counted
from everloop_monitoring.domain.data_drift.events import detector_of
from everloop_monitoring.domain.data_drift.evidence import adjust
from everloop_monitoring.domain.data_drift.watch import DriftWatch
from everloop_monitoring.domain.expectations import Check, ExpectationWatch
from everloop_schemas.monitor_spec import ExpectationSpec
from everloop_schemas.monitoring import DriftDetected

STALE_AFTER = 100
"""A value that comes so often in a row, and twice as often as ever in the reference, is stale."""


def build_features(
    loop: str, watch: DriftWatch | None, expected: ExpectationWatch | None, personal: Iterable[str] = ()
) -> dict[str, Any]:
    """The answer for a loop; without a watch, or before its first record, there are no features in it.

    `personal` features are named, and not watched.
    """
    watch, expected = watch or DriftWatch(), expected or ExpectationWatch()
    inputs = watch.inputs.current
    columns = [_Columns(of, watch.drifts).render() for of in (inputs, watch.labels.current) if of]
    return {
        "loop": loop,
        "reference": inputs and _render_reference(inputs),
        "window": len(inputs.marks) * COMPARISON.block_values if inputs else 0,
        "features": [row for rows in columns for row in rows],
        "personal": sorted(personal),
        "slices": list(watch.drifts[-1].data.slices) if any(row["drifted"] for rows in columns for row in rows) else [],
        "volume": watch.volume.render(),
        "duplicates": watch.seen.duplicates,
        "late": watch.late,
        "expectations": [_render_check(*pair) for pair in zip(expected.expected, expected.checks, strict=True)],
        "drifts": [_render_drift(drift) for drift in watch.drifts],
    }


def _render_reference(comparison: Comparison) -> dict[str, Any]:
    predictions = COMPARISON.reference_blocks * COMPARISON.block_values
    return {"version": comparison.version, "outcomes": predictions, "since": comparison.began.time.isoformat()}


def _render_drift(drift: DriftDetected) -> dict[str, Any]:
    return {"id": drift.id, "time": drift.time.isoformat(), **drift.data.model_dump(mode="json")}


def _render_check(expected: ExpectationSpec, check: Check) -> dict[str, Any]:
    n, broken = check.latest()
    share = 1 - broken / n if n else None
    row = {"field": expected.field, "what": describe(expected), "share": share, "required": expected.share}
    return row | {"then": expected.then, "holds": not check.is_open, "n": n}


class _Columns:
    """The columns of one comparison, with the drift that was reported of it."""

    def __init__(self, comparison: Comparison, drifts: list[DriftDetected]) -> None:
        self._comparison = comparison
        self._drifted = {}
        if comparison.reported and drifts:
            self._drifted = {feature.name: feature for feature in drifts[-1].data.features}

    def render(self) -> list[dict[str, Any]]:
        """A row for each."""
        columns = self._comparison.columns
        enough = len(self._comparison.marks) >= COMPARISON.least_blocks
        probabilities = adjust([counted.probability() for counted in columns]) if enough else [None] * len(columns)
        return [self._render(*pair) for pair in zip(columns, probabilities, strict=True)]

    def _render(self, counted: Counted, probability: float | None) -> dict[str, Any]:
        column, window = counted.column, counted.window()
        n, drifted = sum(window), self._drifted.get(column.name)
        share = {bin: window[bin] / n if n else None for bin in (MISSING, OTHER)}
        outer = window[FIRST_BIN] + window[-1] if column.is_number else 0
        return {
            "name": column.name,
            "type": "number" if column.is_number else "category",
            "kind": column.kind,
            "missing": share[MISSING],
            "out_of_range": (outer / n if n else None) if column.is_number else None,
            "unknown": share[OTHER],
            "distance": counted.distance(window) if n else None,
            "detector": detector_of(column.is_number),
            "p_value": probability,
            "drifted": drifted is not None,
            "since": drifted.since.isoformat() if drifted and drifted.since else None,
            "before": _histogram(counted, counted.reference),
            "after": _histogram(counted, window),
            "constant": n > 0 and column.run >= n,
            "stale": column.run >= STALE_AFTER and column.run > 2 * column.longest,
        }


def _histogram(counted: Counted, counts: list[int]) -> dict[str, Any]:
    """Counts by bin: `edges` are the upper ends of the bins of a number, the last of which has none."""
    column = counted.column
    bins: dict[str, Any] = {"missing": counts[MISSING], "other": counts[OTHER], "counts": counts[FIRST_BIN:]}
    if column.is_number:
        return bins | {"edges": column.edges}
    return bins | {"categories": list(column.places)}
