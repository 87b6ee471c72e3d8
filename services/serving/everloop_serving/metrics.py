"""What serving measures."""

from __future__ import annotations

from functools import lru_cache

from prometheus_client import Counter, Gauge, Histogram

from everloop_learning.version import Version, line_of
from everloop_serving.domain.predict import PredictionResult
from everloop_shared.http.answer_time import BOUNDS
from everloop_shared.metrics import PERSONAL_ERASED
from everloop_shared.plain_metrics import Count, Counts, Times, TimesBy

PREDICTIONS = Counts(
    "everloop_serving_predictions_total",
    "Predictions served, by loop, line of the version, role and endpoint (rest, stream).",
    ["loop", "line", "role", "endpoint"],
)
VERSION_OFFSET = Gauge(
    "everloop_serving_version_offset",
    "Offset in the outcome log of the version that served last, by line; -1 for version 0.",
    ["loop", "line"],
)
REUSED = Counter(
    "everloop_serving_reused_total",
    "Requests and records answered with the prediction made before under their id.",
    ["loop", "endpoint"],
)
IDS_TAKEN = Counter(
    "everloop_serving_ids_taken_total", "Rejected: the id came before with other data.", ["loop", "endpoint"]
)
MODEL_SECONDS = TimesBy(
    "everloop_serving_model_seconds",
    "The served model's own time for one prediction, in seconds.",
    ["loop"],
    (0.00001, 0.00005, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 1.0),
)
FELL_BACK = Counter(
    "everloop_serving_fell_back_total", "Predictions at which a version raised or was not finite.", ["loop", "line"]
)
LOAD_SECONDS = Histogram(
    "everloop_serving_version_load_seconds", "From knowing of a version to serving it, in seconds.", ["loop"]
)
LOAD_FAILURES = Counter("everloop_serving_version_load_failures_total", "Versions that could not be loaded.", ["loop"])
CHAMPION_MISSING = Gauge(
    "everloop_serving_champion_missing",
    "1 while another version answers in place of the champion, which is not loaded; else 0.",
    ["loop"],
)
SPOOL_BYTES = Gauge("everloop_serving_spool_bytes", "Bytes not published yet; limit: SPOOL_BYTES.")
SPOOL_RECORDS = Gauge("everloop_serving_spool_records", "REST predictions not published yet.")
RECENT = Gauge("everloop_serving_recent_predictions", "Predictions remembered; limit: RECENT_PREDICTIONS.")
RECENT_BYTES = Gauge("everloop_serving_recent_bytes", "Bytes of predictions remembered; limit: RECENT_BYTES.")
ENTITIES = Gauge("everloop_serving_entity_states", "Entities whose windows are in memory; limit: ENTITY_STATES.")
ENTITY_BYTES = Gauge("everloop_serving_entity_state_bytes", "Bytes of windows in memory; limit: ENTITY_BYTES.")
WINDOWS = Counts(
    "everloop_serving_windows_total",
    "REST predictions of loops with windows, by where the entity's state came from: memory, feature, new, unread.",
    ["source"],
)
ENTITY_READS = Counter(
    "everloop_serving_entity_reads_total",
    "Reads of window states from feature by result: found, new, away, timeout, busy, elsewhere, error.",
    ["result"],
)
EXPLANATIONS = Counter(
    "everloop_serving_explanations_total",
    "Explanations that were asked for, by method: linear, tree, permutation, or none where it would take too long.",
    ["loop", "method"],
)
LABEL_BYTES = Gauge("everloop_serving_label_bytes", "Bytes of label statistics; limit: LABEL_BYTES.")
GRPC_CALLS = Counter(
    "everloop_serving_grpc_calls_total", "Calls by gRPC, by method and status code.", ["method", "code"]
)
GRPC_SECONDS = Histogram(
    "everloop_serving_grpc_seconds",
    "From the start of a call by gRPC to its answer, whatever its status, in seconds.",
    ["method"],
    buckets=BOUNDS,
)
GRPC_MESSAGE_BYTES = Gauge(
    "everloop_serving_grpc_message_bytes", "Bytes of gRPC messages in memory; limit: MAX_BYTES_IN_FLIGHT."
)

_parse = lru_cache(maxsize=1_000)(Version.parse)
"""Predictions name the same few versions again and again."""


class PrometheusMetrics:
    """Counts for Prometheus, by line, because a line can have as many versions as outcomes.

    Series of a loop's oldest lines are removed beyond `series_per_loop`.
    """

    def __init__(self, series_per_loop: int = 20) -> None:
        self._limit = series_per_loop
        self._versions: dict[tuple[str, str], str] = {}
        self._predictions: dict[str, dict[tuple[str, str, str], Count]] = {}
        self._latest: dict[str, tuple[str, str, str, Count, Times]] = {}
        self._windows = {source: WINDOWS.of(source) for source in ("memory", "feature", "new", "unread")}

    def count_prediction(self, loop: str, endpoint: str, result: PredictionResult) -> None:
        """A prediction was made."""
        latest = self._latest.get(loop)
        if latest is None or latest[:3] != (result.version, result.role, endpoint):
            counted = self._series_of(loop, result.version, result.role, endpoint)
            latest = self._latest[loop] = result.version, result.role, endpoint, *counted
        latest[3].value += 1
        latest[4].observe(result.latency_ms / 1000)
        for failure in result.failures:
            FELL_BACK.labels(loop, line_of(failure.version)).inc()

    def _series_of(self, loop: str, version: str, role: str, endpoint: str) -> tuple[Count, Times]:
        """The series of a version, which is the latest of its line now."""
        line, offset = _parse(version)
        if self._versions.get((loop, line)) != version:
            self._versions[loop, line] = version
            VERSION_OFFSET.labels(loop, line).set(offset)
        labels = (line, role, endpoint)
        series = self._predictions.setdefault(loop, {})
        if labels not in series:
            series[labels] = PREDICTIONS.of(loop, *labels)
            if len(series) > self._limit:
                self._remove_oldest(loop, series)
        return series[labels], MODEL_SECONDS.of(loop)

    def _remove_oldest(self, loop: str, series: dict[tuple[str, str, str], Count]) -> None:
        oldest = next(iter(series))
        del series[oldest]
        PREDICTIONS.remove(loop, *oldest)
        if not any(line == oldest[0] for line, _, _ in series):
            del self._versions[loop, oldest[0]]
            VERSION_OFFSET.remove(loop, oldest[0])

    def count_erased(self) -> None:
        """A record was left out."""
        PERSONAL_ERASED.labels("serving").inc()

    def count_reused(self, loop: str, endpoint: str) -> None:
        """The prediction made before was the answer."""
        REUSED.labels(loop, endpoint).inc()

    def count_windows(self, source: str) -> None:
        """A request was predicted from windows of this source."""
        self._windows[source].value += 1

    def count_entity_read(self, result: str) -> None:
        """A window state was read, or not."""
        ENTITY_READS.labels(result).inc()

    def count_explanation(self, loop: str, method: str) -> None:
        """A prediction was explained, or not."""
        EXPLANATIONS.labels(loop, method).inc()

    def count_id_taken(self, loop: str, endpoint: str) -> None:
        """An id came again with other data."""
        IDS_TAKEN.labels(loop, endpoint).inc()

    def observe_load(self, loop: str, seconds: float) -> None:
        """A version is in memory."""
        LOAD_SECONDS.labels(loop).observe(seconds)

    def count_load_failure(self, loop: str) -> None:
        """A version could not be loaded."""
        LOAD_FAILURES.labels(loop).inc()

    def show_champion(self, loop: str, missing: bool) -> None:
        """Whether another version answers in place of the champion."""
        CHAMPION_MISSING.labels(loop).set(missing)

    def forget_champion(self, loop: str) -> None:
        """The loop is not served any more."""
        CHAMPION_MISSING.remove(loop)
