"""The background job that sets the Prometheus gauges."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from math import nan

from everloop_learning.loops import KnownLoops
from everloop_monitoring.domain.alerts import RANKS
from everloop_monitoring.domain.objectives import ObjectivesWatch
from everloop_monitoring.domain.quality.view import QUANTILES, served_scores
from everloop_monitoring.domain.quality.watch import QualityWatch
from everloop_monitoring.domain.status import score_by_error, score_by_metric
from everloop_monitoring.metrics import (
    CONTRADICTED,
    LABEL_COVERAGE,
    LABEL_DELAY,
    OBJECTIVE_BUDGET,
    OBJECTIVE_BURN,
    OPEN_ALERTS,
    QUALITY,
    SCORE,
    TOTAL,
)
from everloop_monitoring.ports import MonitoringReader
from everloop_schemas.registry import LoopState
from everloop_shared.clock import system_clock
from everloop_shared.errors import Unavailable

OF_LOOPS = (TOTAL, SCORE, CONTRADICTED, OPEN_ALERTS, OBJECTIVE_BURN, OBJECTIVE_BUDGET)
GAUGES = (*OF_LOOPS, QUALITY, LABEL_COVERAGE, LABEL_DELAY)
"""Those with a loop; their series go when it is deleted."""


async def update_gauges(reader: MonitoringReader, loops: KnownLoops, every_s: float) -> None:
    """Set the gauges from the projections every `every_s` seconds, also right after a restart."""
    shown: set[str] = set()
    while True:
        with suppress(Unavailable):  # the gauges keep their values while the database is away
            for deleted in shown - {state.loop for state in loops.all()}:
                for gauge in GAUGES:
                    gauge.remove_by_labels({"loop": deleted})
            shown = {state.loop for state in loops.all()}
            for state in loops.all():
                await _set_gauges(reader, state)
        await asyncio.sleep(every_s)


async def _set_gauges(reader: MonitoringReader, loop: LoopState) -> None:
    spec = loop.data.spec
    error_metric = "mae" if spec.task == "regression" else "accuracy"
    totals = await reader.totals(loop.loop)
    for kind, n in totals.items():
        TOTAL.labels(loop.loop, kind).set(n)
    state = await reader.evaluation_state(loop.loop)
    for kind, score in score_by_error(loop, state).items():
        SCORE.labels(loop.loop, kind, error_metric).set(score)
    for kind, found in score_by_metric(spec, state).items():
        SCORE.labels(loop.loop, kind, spec.metric).set(nan if found is None else found)
    CONTRADICTED.labels(loop.loop).set(state.contradictions.rate if state else 0.0)
    if predictions := totals.get("prediction", 0):
        LABEL_COVERAGE.labels(loop.loop).set(min(1.0, (state.scored if state else 0) / predictions))
    if QualityWatch.is_on(spec) and (watch := await reader.watch(loop.loop, QualityWatch)) is not None:
        _set_quality(loop, watch)
    firing = Counter(alert.severity for alert in await reader.open_alerts(loop.loop) if alert.state == "firing")
    for severity in RANKS:
        OPEN_ALERTS.labels(loop.loop, severity).set(firing[severity])
    await _set_objectives(reader, loop)


def _set_quality(loop: LoopState, watch: QualityWatch) -> None:
    name, estimator = loop.loop, watch.follow(loop.data.spec).estimator
    for kind, scores in served_scores(watch, loop.data.spec).items():
        for metric, score in scores.items():
            QUALITY.labels(name, kind, metric).set(nan if score is None else score)
    if (estimate := estimator.estimate(watch.classes)) is not None:
        QUALITY.labels(name, "estimated", estimator.metric).set(estimate)
    for quantile, share in QUANTILES.items():
        delay = watch.delays.quantile(share)
        LABEL_DELAY.labels(name, quantile).set(nan if delay is None else delay)


async def _set_objectives(reader: MonitoringReader, loop: LoopState) -> None:
    if not ObjectivesWatch.is_on(loop.data.spec):
        return
    watch = await reader.watch(loop.loop, ObjectivesWatch) or ObjectivesWatch()
    for found in watch.follow(loop.data.spec).describe(system_clock()):
        of = loop.loop, found["objective"]
        for window, rate in found["burn"].items():
            OBJECTIVE_BURN.labels(*of, window).set(nan if rate is None else rate)
        OBJECTIVE_BUDGET.labels(*of).set(nan if found["budget_left"] is None else found["budget_left"])
