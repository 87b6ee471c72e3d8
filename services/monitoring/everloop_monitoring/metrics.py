"""The Prometheus metrics of monitoring."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

SCORE = Gauge(
    "everloop_monitoring_score_ratio",
    "Prequential accuracy over what was served (mean absolute error for a regression), by kind: "
    "served, rolling (last 500), no_change, majority; the metric, accuracy or mae, says which way is better",
    ["loop", "kind", "metric"],
)
QUALITY = Gauge(
    "everloop_monitoring_quality_ratio",
    "Each metric of what was served, where the spec turns quality on, by kind: whole (all outcomes), "
    "rolling (last 500), estimated (the last 500 predictions, before their labels come)",
    ["loop", "kind", "metric"],
)
LABEL_COVERAGE = Gauge(
    "everloop_monitoring_label_coverage_ratio", "Share of the loop's predictions whose label is known.", ["loop"]
)
LABEL_DELAY = Gauge(
    "everloop_monitoring_label_delay_seconds",
    "Time from a prediction to its first label, where the spec turns quality on, by quantile: p50, p90, p99",
    ["loop", "percentile"],
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
OPEN_ALERTS = Gauge("everloop_monitoring_open_alerts", "Alerts that fire, by loop and severity.", ["loop", "severity"])
OBJECTIVE_BURN = Gauge(
    "everloop_monitoring_objective_burn_ratio",
    "How many times too fast the budget of an objective is used up, over the windows 1h, 6h and 3d",
    ["loop", "objective", "window"],
)
OBJECTIVE_BUDGET = Gauge(
    "everloop_monitoring_objective_budget_left_ratio",
    "Share of the budget of bad cases over 30 days that is left; below 0 it is overdrawn",
    ["loop", "objective"],
)
DELIVERED = Counter(
    "everloop_monitoring_delivered_alerts_total", "Alerts that a receiver has accepted, by receiver.", ["receiver"]
)
LOST = Counter(
    "everloop_monitoring_lost_alerts_total",
    "Alerts that a receiver will not get, by reason: refused (it does not accept them), overrun (it was away too long)",
    ["receiver", "reason"],
)
UNDELIVERED = Gauge("everloop_monitoring_undelivered_alerts", "Alerts that wait for a receiver.", ["receiver"])
RECEIVER_UP = Gauge(
    "everloop_monitoring_receiver_up", "1 while the last attempt to tell a receiver worked.", ["receiver"]
)
