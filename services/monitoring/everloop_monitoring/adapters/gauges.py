"""The background job that sets the Prometheus gauges."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from math import nan

from everloop_learning.loops import KnownLoops
from everloop_monitoring.domain.alerts import RANKS
from everloop_monitoring.domain.status import score_by_error, score_by_metric
from everloop_monitoring.metrics import CONTRADICTED, OPEN_ALERTS, SCORE, TOTAL
from everloop_monitoring.ports import MonitoringReader
from everloop_schemas.registry import LoopState
from everloop_shared.errors import Unavailable


async def update_gauges(reader: MonitoringReader, loops: KnownLoops, every_s: float) -> None:
    """Set the gauges from the projections every `every_s` seconds, also right after a restart."""
    shown: set[str] = set()
    while True:
        with suppress(Unavailable):  # the gauges keep their values while the database is away
            for deleted in shown - {state.loop for state in loops.all()}:
                for gauge in (TOTAL, SCORE, CONTRADICTED, OPEN_ALERTS):
                    gauge.remove_by_labels({"loop": deleted})
            shown = {state.loop for state in loops.all()}
            for state in loops.all():
                await _set_gauges(reader, state)
        await asyncio.sleep(every_s)


async def _set_gauges(reader: MonitoringReader, loop: LoopState) -> None:
    spec = loop.data.spec
    error_metric = "mae" if spec.task == "regression" else "accuracy"
    for kind, n in (await reader.totals(loop.loop)).items():
        TOTAL.labels(loop.loop, kind).set(n)
    state = await reader.evaluation_state(loop.loop)
    for kind, score in score_by_error(loop, state).items():
        SCORE.labels(loop.loop, kind, error_metric).set(score)
    for kind, found in score_by_metric(spec, state).items():
        SCORE.labels(loop.loop, kind, spec.metric).set(nan if found is None else found)
    CONTRADICTED.labels(loop.loop).set(state.contradictions.rate if state else 0.0)
    firing = Counter(alert.severity for alert in await reader.open_alerts(loop.loop) if alert.state == "firing")
    for severity in RANKS:
        OPEN_ALERTS.labels(loop.loop, severity).set(firing[severity])
