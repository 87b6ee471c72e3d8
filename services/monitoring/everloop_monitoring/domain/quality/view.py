"""What `/quality` answers, from the state of the watch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from everloop_monitoring.domain.quality.estimate import WINDOW
from everloop_monitoring.domain.quality.groups import SERVED, GroupedSums, GroupKey, keys_of
from everloop_monitoring.domain.quality.sums import (
    QualitySums,
    confusion,
    constant_shares,
    intervals_of,
    metrics_of,
    names_of,
    reliability_of,
    with_certainty,
)
from everloop_monitoring.domain.quality.watch import MAJORITY, NO_CHANGE, QualityWatch
from everloop_monitoring.domain.scores import ROLLING_OUTCOMES
from everloop_schemas.loop import METRICS, LoopSpec

ORDER = ("served", "role", "line", "version", "slice")
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
NOTHING = QualitySums()


def build_quality(
    loop: str, spec: LoopSpec, watch: QualityWatch | None, predictions: int, labelled: int
) -> dict[str, Any]:
    """Every group with its metrics, the baselines, the labels and the estimate.

    `predictions` are all of the loop, and `labelled` those of them whose label is known.
    """
    known = (watch or QualityWatch()).follow(spec)
    rolling, names = rolling_sums(known), METRICS[spec.task]
    keys = [key for key in map(GroupKey.parse, known.grouped.sums) if key.by in ORDER]
    keys.sort(key=lambda key: (ORDER.index(key.by), key.field, key.name))
    return {
        "loop": loop,
        "metric": spec.metric,
        "task": spec.task,
        "window": ROLLING_OUTCOMES,
        "metrics": list(names),
        "since": known.since if known.since >= 0 else None,
        "groups": [_describe(known, rolling, key, names) for key in keys],
        "baselines": _baselines(known, names),
        "labels": _labels(known, predictions, labelled),
        "estimated": _estimated(known),
    }


def served_scores(watch: QualityWatch, spec: LoopSpec) -> dict[str, dict[str, float | None]]:
    """The metrics of what was served, over all outcomes and the last ones."""
    names = METRICS[spec.task]
    of = {"whole": watch.grouped.sums.get(SERVED, NOTHING), "rolling": rolling_sums(watch).get(SERVED, NOTHING)}
    return {kind: metrics_of(sums, names, watch.classes) for kind, sums in of.items()}


def rolling_sums(watch: QualityWatch) -> Mapping[str, QualitySums]:
    """The sums of each group over the last `ROLLING_OUTCOMES` outcomes of the loop."""
    grouped = GroupedSums()
    for one in watch.recent:
        for keys, judged in zip(keys_of(one.who, one.slices), one.judged, strict=True):
            parts = watch.parts(one.label, judged)
            for key in keys:
                if key in watch.grouped.sums:
                    grouped.sums.setdefault(key, QualitySums()).add(parts)
    return grouped.sums


def _describe(
    watch: QualityWatch, rolling: Mapping[str, QualitySums], key: GroupKey, names: tuple[str, ...]
) -> dict[str, Any]:
    sums, lately = watch.grouped.sums[str(key)], rolling.get(str(key), NOTHING)
    classes = watch.classes
    table = {"classes": names_of(sums, classes), "counts": confusion(sums, classes)} if classes else None
    return {
        "by": key.by,
        "name": key.name,
        **({"slice": key.field} if key.field else {}),
        "outcomes": sums.outcomes,
        "rolling_outcomes": lately.outcomes,
        "whole": metrics_of(sums, names, classes),
        "rolling": metrics_of(lately, names, classes),
        "interval": intervals_of(sums, classes),
        "confusion": table,
        "reliability": reliability_of(sums),
    }


def _baselines(watch: QualityWatch, names: tuple[str, ...]) -> dict[str, Any]:
    no_change = watch.grouped.sums.get(NO_CHANGE, NOTHING)
    majority = watch.grouped.sums.get(MAJORITY, NOTHING)
    scores = metrics_of(majority, names, watch.classes)
    if watch.classes:
        no_change = with_certainty(no_change, watch.task == "binary")
        scores |= {name: score for name, score in constant_shares(majority).items() if name in names}
    return {
        "no_change": metrics_of(no_change, names, watch.classes),
        "mean" if watch.task == "regression" else "majority": scores,
    }


def _labels(watch: QualityWatch, predictions: int, labelled: int) -> dict[str, Any]:
    return {
        "predictions": predictions,
        "labelled": labelled,
        "coverage": min(1.0, labelled / predictions) if predictions else None,
        "delay_s": {name: watch.delays.quantile(share) for name, share in QUANTILES.items()},
        "corrected": watch.corrected,
    }


def _estimated(watch: QualityWatch) -> dict[str, Any] | None:
    estimator = watch.estimator
    value = estimator.estimate(watch.classes)
    if value is None:
        return None
    return {
        "metric": estimator.metric,
        "value": value,
        "error": estimator.error,
        "outcomes": WINDOW * len(estimator.errors),
        "predictions": len(estimator.predictions),
    }
