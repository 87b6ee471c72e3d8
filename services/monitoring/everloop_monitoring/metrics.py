"""The Prometheus metrics of monitoring."""

from __future__ import annotations

from prometheus_client import Gauge

SCORE = Gauge(
    "everloop_monitoring_score_ratio",
    "Prequential accuracy over what was served (mean absolute error for a regression), by kind: "
    "served, rolling (last 500), no_change, majority; the metric, accuracy or mae, says which way is better",
    ["loop", "kind", "metric"],
)
CONTRADICTED = Gauge(
    "everloop_monitoring_contradicted_ratio",
    "Moving share of contradictions: labels changed, feedback against labels, feedback beyond its source's share",
    ["loop"],
)
TOTAL = Gauge(
    "everloop_monitoring_distinct_ids",
    "Distinct ids on the topics, by kind: event, prediction, outcome, dead_letter, version, drifts, runs, "
    "promotions, rollbacks ...",
    ["loop", "kind"],
)
