"""What serving measures."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from everloop_serving.domain.predict import Said

PREDICTIONS = Counter(
    "everloop_serving_predictions_total",
    "Predictions served, by loop, version, role and door.",
    ["loop", "version", "role", "door"],
)
REUSED = Counter(
    "everloop_serving_reused_total", "Requests and records answered with what was said before.", ["loop", "door"]
)
TAKEN = Counter("everloop_serving_ids_taken_total", "Refused: the id came before with other data.", ["loop", "door"])
MODEL_SECONDS = Histogram(
    "everloop_serving_model_seconds",
    "The served model's own time for one prediction, in seconds.",
    ["loop"],
    buckets=(0.00001, 0.00005, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 1),
)
FELL_BACK = Counter(
    "everloop_serving_fell_back_total", "Predictions at which a version raised or was not finite.", ["loop", "version"]
)
LOAD_SECONDS = Histogram(
    "everloop_serving_version_load_seconds", "From knowing of a version to serving it, in seconds.", ["loop"]
)
LOAD_FAILURES = Counter("everloop_serving_version_load_failures_total", "Versions that could not be loaded.", ["loop"])
SPOOL_BYTES = Gauge("everloop_serving_spool_bytes", "Bytes not delivered yet; limit: SPOOL_BYTES.")
SPOOL_RECORDS = Gauge("everloop_serving_spool_records", "REST predictions not delivered yet.")
RECENT = Gauge("everloop_serving_recent_predictions", "Predictions remembered; limit: RECENT_PREDICTIONS.")
RECENT_BYTES = Gauge("everloop_serving_recent_bytes", "Bytes of predictions remembered; limit: RECENT_BYTES.")
ENTITY_BYTES = Gauge("everloop_serving_entity_state_bytes", "Bytes of windows held; limit: ENTITY_BYTES.")
LABEL_BYTES = Gauge("everloop_serving_label_bytes", "Bytes of label statistics; limit: LABEL_BYTES.")
ENTITIES = Gauge("everloop_serving_entity_states", "Entities whose windows are held; limit: ENTITY_STATES.")


class PrometheusMeter:
    """Counts for Prometheus. A loop's old versions leave the page, so that refreshes do not add up for ever."""

    def __init__(self, versions_per_loop: int = 20) -> None:
        self._limit = versions_per_loop
        self._labels: dict[str, dict[tuple[str, str, str], Counter]] = {}

    def predicted(self, loop: str, door: str, said: Said) -> None:
        """One prediction was served."""
        key = (said.version, said.role, door)
        seen = self._labels.setdefault(loop, {})
        if key not in seen:
            seen[key] = PREDICTIONS.labels(loop, *key)
            if len(seen) > self._limit:
                oldest = next(iter(seen))
                del seen[oldest]
                PREDICTIONS.remove(loop, *oldest)
        seen[key].inc()
        MODEL_SECONDS.labels(loop).observe(said.latency_ms / 1000)
        for version, _ in said.fell:
            FELL_BACK.labels(loop, version).inc()

    def reused(self, loop: str, door: str) -> None:
        """What was said before was said again."""
        REUSED.labels(loop, door).inc()

    def taken(self, loop: str, door: str) -> None:
        """An id came again with other data."""
        TAKEN.labels(loop, door).inc()

    def loaded(self, loop: str, seconds: float) -> None:
        """A version is in memory."""
        LOAD_SECONDS.labels(loop).observe(seconds)

    def load_failed(self, loop: str) -> None:
        """A version could not be loaded."""
        LOAD_FAILURES.labels(loop).inc()
