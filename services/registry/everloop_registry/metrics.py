"""The registry's metrics, each declared once with its meaning."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

DECISIONS = Counter("everloop_registry_decisions_total", "Decisions committed, by type.", ["loop", "type"])
CANDIDATE_SHARE = Gauge(
    "everloop_registry_candidate_share_ratio", "Share of the predictions that the candidate gets.", ["loop"]
)
LEFT_OUT_DECISIONS = Gauge(
    "everloop_registry_left_out_decisions",
    "Records on the decisions' topic that followed from no decision when the registry started.",
)
PINNED_LOOPS = Gauge("everloop_registry_pinned_loops", "1 while a person's rollback pins the loop.", ["loop"])
CHECK_SECONDS = Histogram(
    "everloop_registry_contract_check_seconds",
    "Time of the contract checks of one version.",
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 30),
)
MIRROR_LAG = Gauge(
    "everloop_registry_mirror_lag_records", "Records that are not on the MLflow server of EVERLOOP_MLFLOW_MIRROR yet."
)
MIRROR_FAILURES = Counter(
    "everloop_registry_mirror_failures_total",
    "Attempts to write to the MLflow server of EVERLOOP_MLFLOW_MIRROR that failed.",
)
MIRROR_REFUSED = Counter(
    "everloop_registry_mirror_refused_total", "Events that the MLflow server of EVERLOOP_MLFLOW_MIRROR refused."
)
LINEAGE_LAG = Gauge(
    "everloop_registry_openlineage_lag_records",
    "Records of which the backend at EVERLOOP_OPENLINEAGE_URL was not told yet.",
)
LINEAGE_FAILURES = Counter(
    "everloop_registry_openlineage_failures_total",
    "Attempts to tell the backend at EVERLOOP_OPENLINEAGE_URL that failed.",
)
LINEAGE_REFUSED = Counter(
    "everloop_registry_openlineage_refused_total",
    "Records that the backend at EVERLOOP_OPENLINEAGE_URL refused, and which are left out.",
)
